// Inner loops of the fused operations: plain pointers, one thread, no libtorch. Compiled once per instruction
// set (see build.rs); `kernels()` picks the best one the processor has.
//
// Common shapes: N nodes, E edges sorted by target, H heads of C channels, W = H * C. Every row range [n0, n1)
// covers whole graphs, so all sources of its edges lie in it. Pointers are to the first row of the range where
// the name ends in `_block`, else to the first row of the whole tensor.
#pragma once
#include <cstdint>

namespace shim {

// Edges by target: those into node n are in_ptr[n] .. in_ptr[n + 1], `src` their sources.
struct Edges {
  const int64_t* in_ptr;
  const int64_t* src;
};

// What follows an aggregation or a normalisation, element by element. `keep_scale` is 1 / (1 - p).
struct Epilogue {
  bool relu;
  bool dropout;
  uint32_t threshold;  // p * 2^24
  float keep_scale;
  uint64_t seed;
};

struct GatRange {
  Edges edges;
  int64_t n0, n1, heads, channels;
};

struct Kernels {
  const char* name;
  // s[n, 0..H) = <h[n, head], att_src[head]>, s[n, H..2H) likewise with att_dst.
  void (*scores)(const GatRange&, const float* h_block, const float* att_src, const float* att_dst,
                 float* s_block);
  // alpha[e, h]: softmax over the edges into one target of leaky_relu(s_src + s_dst).
  void (*softmax)(const GatRange&, const float* s_block, float* alpha_block);
  // out[t] = epilogue(bias + sum over edges of alpha * h[source]).
  void (*aggregate)(const GatRange&, const float* h_block, const float* alpha_block, const float* bias,
                    const Epilogue&, float* out_block);
  // pooled[g] = mean of the rows of graph g, for graphs g0 .. g1.
  void (*pool)(const int64_t* node_ptr, int64_t g0, int64_t g1, int64_t width, const float* out_block,
               float* pooled);
  // gz = (g_out + g_pooled[graph] / nodes of the graph) through the epilogue; g_bias += column sums of gz.
  // g_out_block or g_pooled may be null.
  void (*epilogue_backward)(const GatRange&, const int64_t* node_ptr, int64_t g0, int64_t g1,
                            const float* out_block, const float* g_out_block, const float* g_pooled,
                            const Epilogue&, float* gz_block, float* g_bias);
  // Gradient by h (through messages and scores), g_att_* += theirs; `gs_block` is scratch [rows, 2H].
  void (*attention_backward)(const GatRange&, const float* h_block, const float* s_block,
                             const float* alpha_block, const float* gz_block, const float* att_src,
                             const float* att_dst, float* gs_block, float* gh_block, float* g_att_src,
                             float* g_att_dst);
  // Rows of 0 or keep_scale.
  void (*dropout_mask)(const Epilogue&, int64_t n0, int64_t n1, int64_t width, float* mask_block);

  // Column sums and centred squares of some rows, for the variance over all of them.
  void (*moments)(const float* x, int64_t rows, int64_t width, float* mean, float* centred_squares);
  // out = epilogue(x * scale + shift), scale and shift per column.
  void (*affine)(const float* x_block, int64_t n0, int64_t n1, int64_t width, const float* scale,
                 const float* shift, const Epilogue&, float* out_block);
  // g_shift += sum of gz, g_scale += sum of gz * (x - mean) * inv_std.
  void (*affine_sums)(const float* x, const float* out, const float* g_out, int64_t rows, int64_t width,
                      const float* mean, const float* inv_std, const Epilogue&, float* g_scale,
                      float* g_shift);
  // gx = factor * (gz - a - xhat * b), per column.
  void (*affine_backward)(const float* x, const float* out, const float* g_out, int64_t rows, int64_t width,
                          const float* mean, const float* inv_std, const float* factor, const float* a,
                          const float* b, const Epilogue&, float* gx);

  // One row of logits (bias not yet added). Returns the sum of softplus(logit); the row becomes sigmoid(logit)
  // if `gradient`, else logit + bias.
  float (*softplus_row)(float* row, const float* bias, int64_t width, bool gradient);
  // Returns log(sum of exp(logit)); the row becomes softmax(logit) if `gradient`, else logit + bias.
  float (*logsumexp_row)(float* row, const float* bias, int64_t width, bool gradient);
  // sums += row.
  void (*add_row)(float* sums, const float* row, int64_t width);
};

const Kernels& kernels();

}  // namespace shim
