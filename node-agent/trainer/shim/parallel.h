// Threads and blocks. Work is cut into blocks of whole graphs, blocks into one contiguous run per thread by the
// number of nodes: the same number of threads always adds the same numbers in the same order.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace shim {

// Nodes of a block: input, projection and output of a wide layer together stay near the size of a core's
// second-level cache, and a matrix product still has enough rows to run at full speed.
constexpr int64_t BLOCK_NODES = 256;

struct Block {
  int64_t g0, g1;  // graphs
  int64_t n0, n1;  // nodes
  int64_t rows() const { return n1 - n0; }
};

struct Plan {
  std::vector<Block> blocks;
  // Blocks of thread t: first[t] .. first[t + 1].
  std::vector<size_t> first;
  int64_t max_rows = 0;
  int threads() const { return static_cast<int>(first.size()) - 1; }
};

// Blocks of whole graphs; `node_ptr` is i64 [G + 1].
Plan plan_graphs(const int64_t* node_ptr, int64_t graphs);
// Blocks of rows that have nothing to do with each other.
Plan plan_rows(int64_t rows, int64_t block_rows);

// Calls `work(data, thread)` for each thread of the plan, on libtorch's OpenMP threads: inside, libtorch's own
// matrix products know that they are in a parallel region and stay on their thread. `work` must not throw.
void run_threads(int threads, void (*work)(void*, int), void* data);

template <class F>
void each_thread(const Plan& plan, F&& work) {
  run_threads(
      plan.threads(), [](void* f, int thread) { (*static_cast<std::remove_reference_t<F>*>(f))(thread); },
      &work);
}

template <class F>
void each_block(const Plan& plan, F&& work) {
  each_thread(plan, [&](int thread) {
    for (size_t b = plan.first[thread]; b < plan.first[thread + 1]; ++b) work(plan.blocks[b], thread);
  });
}

// Uninitialised floats.
at::Tensor floats(at::IntArrayRef sizes);

// One zeroed row of `size` floats per thread, added up in the order of threads.
class Partials {
 public:
  Partials(int threads, int64_t size);
  float* of(int thread) { return data_ + thread * stride_; }
  // The sum, with the given shape.
  at::Tensor sum(at::IntArrayRef sizes) const;

 private:
  at::Tensor all_;
  float* data_;
  int64_t stride_, size_;
};

// False where this libtorch keeps its matrix product to itself: nothing here may be called then.
bool have_blas();

// c[m, n] (row-major) = a * b, or c += a * b with `add`; the suffix tells which factor is transposed:
// nt: a [m, k], b [n, k];   nn: a [m, k], b [k, n];   tn: a [k, m], b [k, n].
void gemm_nt(int64_t m, int64_t n, int64_t k, const float* a, const float* b, float* c);
void gemm_nn(int64_t m, int64_t n, int64_t k, const float* a, const float* b, float* c);
void gemm_tn_add(int64_t m, int64_t n, int64_t k, const float* a, const float* b, float* c);

}  // namespace shim
