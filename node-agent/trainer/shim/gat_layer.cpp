// One graph attention layer: projection, scores, softmax, aggregation, bias, ReLU, dropout, and the mean over each
// graph, block of graphs by block of graphs. No [E, H, C] tensor, no dropout mask, no atomics.
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include "boundary.h"
#include "parallel.h"

namespace shim {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct Inputs {
  at::Tensor x, weight, att_src, att_dst, bias;
  at::Tensor in_ptr, src, node_ptr;
  Epilogue epilogue;
  bool pool;
};

struct Shape {
  int64_t nodes, inputs, heads, channels, width, edges, graphs;
};

Shape shape_of(const Inputs& in) {
  Shape s{};
  s.nodes = in.x.size(0);
  s.inputs = in.x.size(1);
  s.heads = in.att_src.size(-2);
  s.channels = in.att_src.size(-1);
  s.width = s.heads * s.channels;
  s.edges = in.src.size(0);
  s.graphs = in.node_ptr.size(0) - 1;
  TORCH_CHECK(in.weight.size(0) == s.width && in.weight.size(1) == s.inputs, "gat_layer: weight does not fit");
  TORCH_CHECK(in.in_ptr.size(0) == s.nodes + 1 && in.bias.numel() == s.width, "gat_layer: sizes do not fit");
  for (const auto* t : {&in.x, &in.weight, &in.att_src, &in.att_dst, &in.bias}) {
    TORCH_CHECK(t->device().is_cpu() && t->scalar_type() == at::kFloat && t->is_contiguous(),
                "gat_layer: contiguous f32 on the CPU is needed");
  }
  for (const auto* t : {&in.in_ptr, &in.src, &in.node_ptr}) {
    TORCH_CHECK(t->device().is_cpu() && t->scalar_type() == at::kLong && t->is_contiguous(),
                "gat_layer: contiguous i64 indices on the CPU are needed");
  }
  return s;
}

// What the backward pass needs beside the inputs; undefined without gradient.
struct Kept {
  at::Tensor h, s, alpha;
};

struct Result {
  at::Tensor out, pooled;
  Kept kept;
};

Result forward(const Inputs& in, bool keep) {
  const Shape s = shape_of(in);
  const Kernels& k = kernels();
  const int64_t* node_ptr = in.node_ptr.const_data_ptr<int64_t>();
  const Edges edges{in.in_ptr.const_data_ptr<int64_t>(), in.src.const_data_ptr<int64_t>()};
  const Plan plan = plan_graphs(node_ptr, s.graphs);
  int64_t max_edges = 0;
  for (const Block& b : plan.blocks) max_edges = std::max(max_edges, edges.in_ptr[b.n1] - edges.in_ptr[b.n0]);

  Result r;
  r.out = floats({s.nodes, s.width});
  if (in.pool) r.pooled = floats({s.graphs, s.width});
  // Without gradient the intermediate values live for one block only.
  const int64_t lanes = plan.threads();
  r.kept.h = keep ? floats({s.nodes, s.width}) : floats({lanes * plan.max_rows, s.width});
  r.kept.s = keep ? floats({s.nodes, 2 * s.heads}) : floats({lanes * plan.max_rows, 2 * s.heads});
  r.kept.alpha = keep ? floats({s.edges, s.heads}) : floats({lanes * max_edges, s.heads});

  const float *x = in.x.const_data_ptr<float>(), *weight = in.weight.const_data_ptr<float>();
  const float *att_src = in.att_src.const_data_ptr<float>(), *att_dst = in.att_dst.const_data_ptr<float>();
  const float* bias = in.bias.const_data_ptr<float>();
  float *h = r.kept.h.data_ptr<float>(), *scores = r.kept.s.data_ptr<float>();
  float *alpha = r.kept.alpha.data_ptr<float>(), *out = r.out.data_ptr<float>();
  float* pooled = in.pool ? r.pooled.data_ptr<float>() : nullptr;
  each_block(plan, [&](const Block& b, int thread) {
    const int64_t row = keep ? b.n0 : thread * plan.max_rows;
    const int64_t edge = keep ? edges.in_ptr[b.n0] : thread * max_edges;
    const GatRange range{edges, b.n0, b.n1, s.heads, s.channels};
    float *hb = h + row * s.width, *sb = scores + row * 2 * s.heads, *ab = alpha + edge * s.heads;
    float* ob = out + b.n0 * s.width;
    gemm_nt(b.rows(), s.width, s.inputs, x + b.n0 * s.inputs, weight, hb);
    k.scores(range, hb, att_src, att_dst, sb);
    k.softmax(range, sb, ab);
    k.aggregate(range, hb, ab, bias, in.epilogue, ob);
    if (pooled) k.pool(node_ptr, b.g0, b.g1, s.width, ob, pooled);
  });
  if (!keep) r.kept = Kept{};
  return r;
}

struct Gradients {
  at::Tensor x, weight, att_src, att_dst, bias;
};

Gradients backward(const Inputs& in, const Kept& kept, const at::Tensor& out, const at::Tensor& g_out,
                   const at::Tensor& g_pooled, bool wants_x) {
  const Shape s = shape_of(in);
  const Kernels& k = kernels();
  const int64_t* node_ptr = in.node_ptr.const_data_ptr<int64_t>();
  const Edges edges{in.in_ptr.const_data_ptr<int64_t>(), in.src.const_data_ptr<int64_t>()};
  const Plan plan = plan_graphs(node_ptr, s.graphs);
  const int lanes = plan.threads();
  Partials g_weight(lanes, s.width * s.inputs), g_bias(lanes, s.width);
  Partials g_att_src(lanes, s.width), g_att_dst(lanes, s.width);
  at::Tensor gz = floats({lanes * plan.max_rows, s.width}), gh = floats({lanes * plan.max_rows, s.width});
  at::Tensor gs = floats({lanes * plan.max_rows, 2 * s.heads});
  Gradients g;
  if (wants_x) g.x = floats({s.nodes, s.inputs});

  const float *x = in.x.const_data_ptr<float>(), *weight = in.weight.const_data_ptr<float>();
  const float *att_src = in.att_src.const_data_ptr<float>(), *att_dst = in.att_dst.const_data_ptr<float>();
  const float *h = kept.h.const_data_ptr<float>(), *scores = kept.s.const_data_ptr<float>();
  const float *alpha = kept.alpha.const_data_ptr<float>(), *o = out.const_data_ptr<float>();
  const float* go = g_out.defined() ? g_out.const_data_ptr<float>() : nullptr;
  const float* gp = g_pooled.defined() ? g_pooled.const_data_ptr<float>() : nullptr;
  float *gz_all = gz.data_ptr<float>(), *gh_all = gh.data_ptr<float>(), *gs_all = gs.data_ptr<float>();
  float* gx = wants_x ? g.x.data_ptr<float>() : nullptr;
  each_block(plan, [&](const Block& b, int thread) {
    const GatRange range{edges, b.n0, b.n1, s.heads, s.channels};
    const int64_t scratch = thread * plan.max_rows;
    float *gzb = gz_all + scratch * s.width, *ghb = gh_all + scratch * s.width;
    const float* hb = h + b.n0 * s.width;
    k.epilogue_backward(range, node_ptr, b.g0, b.g1, o + b.n0 * s.width, go ? go + b.n0 * s.width : nullptr, gp,
                        in.epilogue, gzb, g_bias.of(thread));
    k.attention_backward(range, hb, scores + b.n0 * 2 * s.heads, alpha + edges.in_ptr[b.n0] * s.heads, gzb,
                         att_src, att_dst, gs_all + scratch * 2 * s.heads, ghb, g_att_src.of(thread),
                         g_att_dst.of(thread));
    gemm_tn_add(s.width, s.inputs, b.rows(), ghb, x + b.n0 * s.inputs, g_weight.of(thread));
    if (gx) gemm_nn(b.rows(), s.inputs, s.width, ghb, weight, gx + b.n0 * s.inputs);
  });
  g.weight = g_weight.sum(in.weight.sizes());
  g.att_src = g_att_src.sum(in.att_src.sizes());
  g.att_dst = g_att_dst.sum(in.att_dst.sizes());
  g.bias = g_bias.sum(in.bias.sizes());
  return g;
}

struct GatLayer : torch::autograd::Function<GatLayer> {
  static variable_list forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight,
                               const at::Tensor& att_src, const at::Tensor& att_dst, const at::Tensor& bias,
                               const Inputs& rest) {
    Inputs in{x, weight, att_src, att_dst, bias, rest.in_ptr, rest.src, rest.node_ptr, rest.epilogue, rest.pool};
    Result r = shim::forward(in, true);
    ctx->save_for_backward({x, weight, att_src, att_dst, bias, in.in_ptr, in.src, in.node_ptr, r.kept.h, r.kept.s,
                            r.kept.alpha, r.out});
    ctx->saved_data["relu"] = in.epilogue.relu;
    // The mask is read off the output; only its scale is needed again.
    ctx->saved_data["scale"] = in.epilogue.dropout ? static_cast<double>(in.epilogue.keep_scale) : 0.0;
    ctx->saved_data["pool"] = in.pool;
    if (!in.pool) return {r.out};
    return {r.out, r.pooled};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto v = ctx->get_saved_variables();
    const double scale = ctx->saved_data["scale"].toDouble();
    Epilogue e{};
    e.relu = ctx->saved_data["relu"].toBool();
    e.dropout = scale != 0.0;
    e.keep_scale = static_cast<float>(scale);
    const bool pool = ctx->saved_data["pool"].toBool();
    const Inputs in{v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7], e, pool};
    auto dense = [](const at::Tensor& t) { return t.defined() ? t.contiguous() : t; };
    const at::Tensor g_pooled = pool ? dense(grads[1]) : at::Tensor();
    const bool wants_x = ctx->needs_input_grad(0);
    Gradients g = shim::backward(in, {v[8], v[9], v[10]}, v[11], dense(grads[0]), g_pooled, wants_x);
    return {g.x, g.weight, g.att_src, g.att_dst, g.bias, at::Tensor()};
  }
};

}  // namespace
}  // namespace shim

extern "C" char* shim_gat_layer(const at::Tensor* x, const at::Tensor* weight, const at::Tensor* att_src,
                                const at::Tensor* att_dst, const at::Tensor* bias, const at::Tensor* in_ptr,
                                const at::Tensor* src, const at::Tensor* node_ptr, bool relu, double dropout,
                                uint64_t seed, bool pool, at::Tensor** out, at::Tensor** pooled) {
  return shim::guarded([&] {
    TORCH_CHECK(relu || dropout == 0.0, "gat_layer: dropout is fused behind ReLU only");
    shim::Inputs in{x->contiguous(), *weight, *att_src, *att_dst, *bias, *in_ptr, *src, *node_ptr,
                    shim::epilogue(relu, dropout, seed), pool};
    bool tracked = false;
    for (const auto* t : {x, weight, att_src, att_dst, bias}) tracked = tracked || t->requires_grad();
    if (tracked && at::GradMode::is_enabled()) {
      auto results = shim::GatLayer::apply(in.x, in.weight, in.att_src, in.att_dst, in.bias, in);
      *out = shim::give(results[0]);
      if (pool) *pooled = shim::give(results[1]);
      return;
    }
    shim::Result r = shim::forward(in, false);
    *out = shim::give(r.out);
    if (pool) *pooled = shim::give(r.pooled);
  });
}
