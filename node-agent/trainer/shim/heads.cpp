// The two heads as wide as the vocabulary: linear layer, loss and gradients of a block of rows while its logits lie
// in the cache. Logits of a whole batch never exist.
#include <ATen/core/grad_mode.h>

#include "boundary.h"
#include "parallel.h"

namespace shim {
namespace {

// Logits of one block, in floats.
constexpr int64_t BLOCK_LOGITS = 128 * 1024;

// Columns set to one in each row, as offsets; rows may come in any order.
struct Positives {
  std::vector<int64_t> ptr, column;
};

Positives by_row(const at::Tensor& rows, const at::Tensor& columns, int64_t n, int64_t width) {
  TORCH_CHECK(rows.numel() == columns.numel() && rows.is_contiguous() && columns.is_contiguous() &&
                  rows.scalar_type() == at::kLong && columns.scalar_type() == at::kLong,
              "head: targets are two i64 lists of one length");
  const int64_t *r = rows.const_data_ptr<int64_t>(), *c = columns.const_data_ptr<int64_t>();
  Positives p;
  p.ptr.assign(n + 1, 0);
  for (int64_t i = 0; i < rows.numel(); ++i) {
    TORCH_CHECK(r[i] >= 0 && r[i] < n && c[i] >= 0 && c[i] < width, "head: a target is out of range");
    ++p.ptr[r[i] + 1];
  }
  for (int64_t i = 0; i < n; ++i) p.ptr[i + 1] += p.ptr[i];
  p.column.resize(rows.numel());
  std::vector<int64_t> next(p.ptr.begin(), p.ptr.end() - 1);
  for (int64_t i = 0; i < rows.numel(); ++i) p.column[next[r[i]]++] = c[i];
  return p;
}

struct Result {
  at::Tensor by_node;  // [N], summed over the columns
  at::Tensor g_x, g_weight, g_bias;  // of the sum over all nodes
};

// `exclusive`: softmax cross entropy (one target a row), else binary cross entropies.
Result head(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, const Positives& positives,
            bool exclusive, bool gradient) {
  const int64_t n = x.size(0), inner = x.size(1), width = weight.size(0);
  const Kernels& k = kernels();
  const Plan plan = plan_rows(n, std::max<int64_t>(8, std::min(BLOCK_NODES, BLOCK_LOGITS / width)));
  const int lanes = plan.threads();
  at::Tensor scratch = floats({lanes * plan.max_rows, width});
  Partials g_weight(lanes, gradient ? width * inner : 0), g_bias(lanes, gradient ? width : 0);
  Result result;
  result.by_node = floats({n});
  if (gradient) result.g_x = floats({n, inner});
  const float *from = x.const_data_ptr<float>(), *w = weight.const_data_ptr<float>();
  const float* b = bias.const_data_ptr<float>();
  float *logits_all = scratch.data_ptr<float>(), *by_node = result.by_node.data_ptr<float>();
  float* g_x = gradient ? result.g_x.data_ptr<float>() : nullptr;
  each_block(plan, [&](const Block& block, int thread) {
    float* logits = logits_all + thread * plan.max_rows * width;
    gemm_nt(block.rows(), width, inner, from + block.n0 * inner, w, logits);
    for (int64_t row = 0; row < block.rows(); ++row) {
      float* values = logits + row * width;
      const int64_t p0 = positives.ptr[block.n0 + row], p1 = positives.ptr[block.n0 + row + 1];
      float loss = 0;
      for (int64_t p = p0; p < p1; ++p) loss -= values[positives.column[p]] + b[positives.column[p]];
      loss += exclusive ? k.logsumexp_row(values, b, width, gradient) : k.softplus_row(values, b, width, gradient);
      by_node[block.n0 + row] = loss;
      if (!gradient) continue;
      for (int64_t p = p0; p < p1; ++p) values[positives.column[p]] -= 1.0f;
      k.add_row(g_bias.of(thread), values, width);
    }
    if (!gradient) return;
    gemm_nn(block.rows(), inner, width, logits, w, g_x + block.n0 * inner);
    gemm_tn_add(width, inner, block.rows(), logits, from + block.n0 * inner, g_weight.of(thread));
  });
  if (gradient) {
    result.g_weight = g_weight.sum(weight.sizes());
    result.g_bias = g_bias.sum(bias.sizes());
  }
  return result;
}

}  // namespace
}  // namespace shim

// The gradients stay null unless they are asked for, gradients are recorded and one of the inputs wants them.
extern "C" char* shim_head(const at::Tensor* x, const at::Tensor* weight, const at::Tensor* bias,
                           const at::Tensor* rows, const at::Tensor* columns, bool exclusive, bool gradient,
                           at::Tensor** by_node, at::Tensor** g_x, at::Tensor** g_weight, at::Tensor** g_bias) {
  return shim::guarded([&] {
    const bool tracked = x->requires_grad() || weight->requires_grad() || bias->requires_grad();
    gradient = gradient && tracked && at::GradMode::is_enabled();
    const at::Tensor input = x->detach().contiguous();
    const at::Tensor w = weight->detach(), b = bias->detach();
    for (const auto* t : {&input, &w, &b}) {
      TORCH_CHECK(t->device().is_cpu() && t->scalar_type() == at::kFloat && t->is_contiguous(),
                  "head: contiguous f32 on the CPU is needed");
    }
    TORCH_CHECK(w.size(1) == input.size(1) && b.numel() == w.size(0), "head: sizes do not fit");
    const auto positives = shim::by_row(*rows, *columns, input.size(0), w.size(0));
    shim::Result r = shim::head(input, w, b, positives, exclusive, gradient);
    *by_node = shim::give(r.by_node);
    if (!gradient) return;
    *g_x = shim::give(r.g_x);
    *g_weight = shim::give(r.g_weight);
    *g_bias = shim::give(r.g_bias);
  });
}
