#include "parallel.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

// The stable entry points of GNU OpenMP that `#pragma omp parallel` compiles to, called by name so that any
// compiler will do and it is the runtime libtorch itself has loaded.
extern "C" void GOMP_parallel(void (*work)(void*), void* data, unsigned threads, unsigned flags);
extern "C" int omp_get_thread_num(void);
// Fortran's single-precision matrix product, column-major. The official libtorch exports that of its BLAS; where
// another one does not, the fused operations are not available (see have_blas).
extern "C" __attribute__((weak)) void sgemm_(const char* trans_a, const char* trans_b, const int* m, const int* n, const int* k,
                       const float* alpha, const float* a, const int* lda, const float* b, const int* ldb,
                       const float* beta, float* c, const int* ldc);

namespace shim {
namespace {

void assign_threads(Plan& plan, int64_t rows) {
  const int64_t threads =
      std::max<int64_t>(1, std::min<int64_t>(at::get_num_threads(), plan.blocks.size()));
  plan.first.assign(1, 0);
  size_t next = 0;
  int64_t done = 0;
  for (int64_t t = 1; t <= threads; ++t) {
    // Half a block may stand over the line: the nearest cut is taken.
    while (next < plan.blocks.size() &&
           (t == threads || (done + plan.blocks[next].rows() / 2) * threads < rows * t)) {
      done += plan.blocks[next++].rows();
    }
    plan.first.push_back(next);
  }
}

}  // namespace

Plan plan_graphs(const int64_t* node_ptr, int64_t graphs) {
  Plan plan;
  const int64_t rows = node_ptr[graphs];
  // Few nodes on many threads: smaller blocks, so that every thread has some.
  const int64_t share = (rows + at::get_num_threads() - 1) / at::get_num_threads();
  const int64_t wanted = std::max<int64_t>(1, std::min(BLOCK_NODES, share));
  int64_t g0 = 0;
  for (int64_t g = 1; g <= graphs; ++g) {
    const bool full = node_ptr[g] - node_ptr[g0] >= wanted;
    if (full || g == graphs) {
      plan.blocks.push_back({g0, g, node_ptr[g0], node_ptr[g]});
      plan.max_rows = std::max(plan.max_rows, plan.blocks.back().rows());
      g0 = g;
    }
  }
  assign_threads(plan, rows);
  return plan;
}

Plan plan_rows(int64_t rows, int64_t block_rows) {
  Plan plan;
  for (int64_t n = 0; n < rows; n += block_rows) {
    plan.blocks.push_back({0, 0, n, std::min(rows, n + block_rows)});
  }
  plan.max_rows = std::min(rows, block_rows);
  assign_threads(plan, rows);
  return plan;
}

void run_threads(int threads, void (*work)(void*, int), void* data) {
  if (threads <= 1) {
    work(data, 0);
    return;
  }
  struct Call {
    void (*work)(void*, int);
    void* data;
    int threads;
  } call{work, data, threads};
  GOMP_parallel(
      [](void* p) {
        const auto* call = static_cast<const Call*>(p);
        const int thread = omp_get_thread_num();
        if (thread < call->threads) call->work(call->data, thread);
      },
      &call, static_cast<unsigned>(threads), 0);
}

bool have_blas() { return &sgemm_ != nullptr; }

at::Tensor floats(at::IntArrayRef sizes) { return at::empty(sizes, at::TensorOptions().dtype(at::kFloat)); }

namespace {
// Threads must not write to one cache line.
constexpr int64_t LINE = 16;
}  // namespace

Partials::Partials(int threads, int64_t size)
    : stride_((size + 2 * LINE - 1) / LINE * LINE), size_(size) {
  all_ = at::zeros({threads, stride_}, at::TensorOptions().dtype(at::kFloat));
  data_ = all_.data_ptr<float>();
}

at::Tensor Partials::sum(at::IntArrayRef sizes) const {
  at::Tensor total = all_.select(0, 0).narrow(0, 0, size_);
  for (int64_t t = 1; t < all_.size(0); ++t) total += all_.select(0, t).narrow(0, 0, size_);
  return (all_.size(0) > 1 ? total.clone() : total).view(sizes);
}

// Row-major c = a * b is column-major c' = b' * a'.
void gemm_nt(int64_t m, int64_t n, int64_t k, const float* a, const float* b, float* c) {
  const int rows = m, columns = n, inner = k;
  const float one = 1, zero = 0;
  sgemm_("T", "N", &columns, &rows, &inner, &one, b, &inner, a, &inner, &zero, c, &columns);
}

void gemm_nn(int64_t m, int64_t n, int64_t k, const float* a, const float* b, float* c) {
  const int rows = m, columns = n, inner = k;
  const float one = 1, zero = 0;
  sgemm_("N", "N", &columns, &rows, &inner, &one, b, &columns, a, &inner, &zero, c, &columns);
}

void gemm_tn_add(int64_t m, int64_t n, int64_t k, const float* a, const float* b, float* c) {
  const int rows = m, columns = n, inner = k;
  const float one = 1;
  sgemm_("N", "T", &columns, &rows, &inner, &one, b, &columns, a, &rows, &one, c, &columns);
}

}  // namespace shim
