// Batch normalisation over nodes, ReLU and dropout in one pass each way.
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>

#include "boundary.h"
#include "parallel.h"

namespace shim {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr double EPS = 1e-5;
constexpr double MOMENTUM = 0.1;

struct Columns {
  at::Tensor mean, inv_std;
};

void check(const at::Tensor& x, std::initializer_list<const at::Tensor*> columns) {
  auto plain = [](const at::Tensor& t) {
    return t.device().is_cpu() && t.scalar_type() == at::kFloat && t.is_contiguous();
  };
  TORCH_CHECK(x.dim() == 2 && x.size(0) > 0 && plain(x), "norm_act: contiguous f32 [N, W] is needed");
  for (const auto* t : columns) TORCH_CHECK(plain(*t) && t->numel() == x.size(1), "norm_act: sizes do not fit");
}

Columns columns_of(int64_t width) { return {floats({width}), floats({width})}; }

// Statistics of the batch; updates the running ones as torch does (the kept variance is the unbiased one).
Columns batch_statistics(const at::Tensor& x, const at::Tensor& running_mean, const at::Tensor& running_var) {
  const int64_t rows = x.size(0), width = x.size(1);
  const Plan plan = plan_rows(rows, BLOCK_NODES);
  const int64_t blocks = static_cast<int64_t>(plan.blocks.size());
  at::Tensor moments = floats({blocks, 2, width});
  const float* from = x.const_data_ptr<float>();
  float* per_block = moments.data_ptr<float>();
  each_block(plan, [&](const Block& b, int) {
    float* mean = per_block + b.n0 / BLOCK_NODES * 2 * width;
    kernels().moments(from + b.n0 * width, b.rows(), width, mean, mean + width);
  });
  Columns c = columns_of(width);
  float *mean = c.mean.data_ptr<float>(), *inv_std = c.inv_std.data_ptr<float>();
  float *old_mean = running_mean.data_ptr<float>(), *old_var = running_var.data_ptr<float>();
  for (int64_t i = 0; i < width; ++i) {
    // Chan, Golub and LeVeque: joins the moments of two parts without cancellation.
    double m = 0, squares = 0, n = 0;
    for (int64_t b = 0; b < blocks; ++b) {
      const double count = static_cast<double>(plan.blocks[b].rows());
      const double delta = per_block[b * 2 * width + i] - m;
      squares += per_block[(b * 2 + 1) * width + i] + delta * delta * n * count / (n + count);
      m += delta * count / (n + count);
      n += count;
    }
    mean[i] = static_cast<float>(m);
    inv_std[i] = static_cast<float>(1.0 / std::sqrt(squares / n + EPS));
    old_mean[i] = static_cast<float>((1 - MOMENTUM) * old_mean[i] + MOMENTUM * m);
    old_var[i] = static_cast<float>((1 - MOMENTUM) * old_var[i] + MOMENTUM * squares / (n - 1));
  }
  return c;
}

Columns running_statistics(const at::Tensor& running_mean, const at::Tensor& running_var) {
  Columns c = columns_of(running_mean.numel());
  const float *mean = running_mean.const_data_ptr<float>(), *var = running_var.const_data_ptr<float>();
  for (int64_t i = 0; i < running_mean.numel(); ++i) {
    c.mean.data_ptr<float>()[i] = mean[i];
    c.inv_std.data_ptr<float>()[i] = static_cast<float>(1.0 / std::sqrt(var[i] + EPS));
  }
  return c;
}

at::Tensor apply_columns(const at::Tensor& x, const Columns& c, const at::Tensor& weight, const at::Tensor& bias,
                         const Epilogue& epilogue) {
  const int64_t width = x.size(1);
  std::vector<float> scale(width), shift(width);
  const float *mean = c.mean.const_data_ptr<float>(), *inv_std = c.inv_std.const_data_ptr<float>();
  const float *w = weight.const_data_ptr<float>(), *b = bias.const_data_ptr<float>();
  for (int64_t i = 0; i < width; ++i) {
    scale[i] = w[i] * inv_std[i];
    shift[i] = b[i] - mean[i] * scale[i];
  }
  at::Tensor out = floats(x.sizes());
  const float* from = x.const_data_ptr<float>();
  float* to = out.data_ptr<float>();
  each_block(plan_rows(x.size(0), BLOCK_NODES), [&](const Block& blk, int) {
    kernels().affine(from + blk.n0 * width, blk.n0, blk.n1, width, scale.data(), shift.data(), epilogue,
                     to + blk.n0 * width);
  });
  return out;
}

struct Gradients {
  at::Tensor x, weight, bias;
};

Gradients backward(const at::Tensor& x, const at::Tensor& weight, const Columns& c, const at::Tensor& out,
                   const at::Tensor& g_out, const Epilogue& epilogue) {
  const int64_t rows = x.size(0), width = x.size(1);
  const Plan plan = plan_rows(rows, BLOCK_NODES);
  const float *from = x.const_data_ptr<float>(), *o = out.const_data_ptr<float>();
  const float *go = g_out.const_data_ptr<float>(), *w = weight.const_data_ptr<float>();
  const float *mean = c.mean.const_data_ptr<float>(), *inv_std = c.inv_std.const_data_ptr<float>();
  Partials g_weight(plan.threads(), width), g_bias(plan.threads(), width);
  each_block(plan, [&](const Block& b, int thread) {
    const int64_t at = b.n0 * width;
    kernels().affine_sums(from + at, o + at, go + at, b.rows(), width, mean, inv_std, epilogue,
                          g_weight.of(thread), g_bias.of(thread));
  });
  Gradients g;
  g.weight = g_weight.sum({width});
  g.bias = g_bias.sum({width});
  std::vector<float> factor(width), a(width), b(width);
  for (int64_t i = 0; i < width; ++i) {
    factor[i] = w[i] * inv_std[i];
    a[i] = g.bias.const_data_ptr<float>()[i] / static_cast<float>(rows);
    b[i] = g.weight.const_data_ptr<float>()[i] / static_cast<float>(rows);
  }
  g.x = floats(x.sizes());
  float* gx = g.x.data_ptr<float>();
  each_block(plan, [&](const Block& blk, int) {
    const int64_t at = blk.n0 * width;
    kernels().affine_backward(from + at, o + at, go + at, blk.rows(), width, mean, inv_std, factor.data(),
                              a.data(), b.data(), epilogue, gx + at);
  });
  return g;
}

struct NormAct : torch::autograd::Function<NormAct> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight,
                            const at::Tensor& bias, const Columns& c, const Epilogue& epilogue) {
    at::Tensor out = apply_columns(x, c, weight, bias, epilogue);
    ctx->save_for_backward({x, weight, c.mean, c.inv_std, out});
    ctx->saved_data["scale"] = epilogue.dropout ? static_cast<double>(epilogue.keep_scale) : 0.0;
    return out;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto v = ctx->get_saved_variables();
    const double scale = ctx->saved_data["scale"].toDouble();
    Epilogue e{};
    e.relu = true;
    e.dropout = scale != 0.0;
    e.keep_scale = static_cast<float>(scale);
    Gradients g = shim::backward(v[0], v[1], {v[2], v[3]}, v[4], grads[0].contiguous(), e);
    return {g.x, g.weight, g.bias, at::Tensor(), at::Tensor()};
  }
};

}  // namespace
}  // namespace shim

extern "C" char* shim_norm_act(const at::Tensor* x, const at::Tensor* weight, const at::Tensor* bias,
                               const at::Tensor* running_mean, const at::Tensor* running_var, bool train,
                               double dropout, uint64_t seed, at::Tensor** out) {
  return shim::guarded([&] {
    const at::Tensor input = x->contiguous();
    shim::check(input, {weight, bias, running_mean, running_var});
    TORCH_CHECK(!train || input.size(0) > 1, "norm_act: one row has no variance");
    const shim::Columns c = train ? shim::batch_statistics(input, *running_mean, *running_var)
                                  : shim::running_statistics(*running_mean, *running_var);
    const shim::Epilogue e = shim::epilogue(true, dropout, seed);
    const bool tracked = input.requires_grad() || weight->requires_grad() || bias->requires_grad();
    if (!tracked || !at::GradMode::is_enabled()) {
      *out = shim::give(shim::apply_columns(input, c, *weight, *bias, e));
      return;
    }
    TORCH_CHECK(train, "norm_act: gradients are for the training mode only");
    *out = shim::give(shim::NormAct::apply(input, *weight, *bias, c, e));
  });
}
