// Attention and aggregation; part of kernels.cpp.
#pragma once

// PyTorch Geometric's defaults.
constexpr float NEGATIVE_SLOPE = 0.2f;

SHIM_INLINE float dot(const float* a, const float* b, int64_t n) {
  v8 total = splat(0);
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) total += load(a + i) * load(b + i);
  if (i < n) total += load_some(a + i, n - i, 0) * load_some(b + i, n - i, 0);
  return sum(total);
}

// to += factor * from
SHIM_INLINE void add_scaled(float* to, const float* from, float factor, int64_t n) {
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) store(to + i, load(to + i) + load(from + i) * factor);
  for (; i < n; ++i) to[i] += from[i] * factor;
}

SHIM_INLINE v8 kept(const Epilogue& e, uint64_t key, int64_t column) {
  const u8v lane = {0, 1, 2, 3, 4, 5, 6, 7};
  u8v bits = random_bits(lane + (uint32_t)column, (uint32_t)key, (uint32_t)(key >> 32)) >> 8;
  return (i8v)bits >= (int32_t)e.threshold ? splat(e.keep_scale) : splat(0);
}

SHIM_INLINE v8 finish(const Epilogue& e, uint64_t key, int64_t column, v8 v) {
  // Written so that NaN passes.
  if (e.relu) v = v < splat(0) ? splat(0) : v;
  if (e.dropout) v *= kept(e, key, column);
  return v;
}

SHIM_INLINE void epilogue_row(const Epilogue& e, int64_t row, int64_t width, float* x) {
  if (!e.relu && !e.dropout) return;
  const uint64_t key = row_key(e.seed, row);
  int64_t i = 0;
  for (; i + LANES <= width; i += LANES) store(x + i, finish(e, key, i, load(x + i)));
  if (i < width) store_some(x + i, finish(e, key, i, load_some(x + i, width - i, 0)), width - i);
}

static void scores(const GatRange& g, const float* h, const float* att_src, const float* att_dst, float* s) {
  const int64_t H = g.heads, C = g.channels;
  for (int64_t n = 0; n < g.n1 - g.n0; ++n) {
    for (int64_t k = 0; k < H; ++k) {
      const float* values = h + (n * H + k) * C;
      s[n * 2 * H + k] = dot(values, att_src + k * C, C);
      s[n * 2 * H + H + k] = dot(values, att_dst + k * C, C);
    }
  }
}

static void softmax(const GatRange& g, const float* s, float* alpha) {
  const int64_t H = g.heads, first = g.edges.in_ptr[g.n0], last = g.edges.in_ptr[g.n1];
  for (int64_t t = g.n0; t < g.n1; ++t) {
    const int64_t e0 = g.edges.in_ptr[t], e1 = g.edges.in_ptr[t + 1];
    const float* to = s + (t - g.n0) * 2 * H + H;
    for (int64_t k = 0; k < H; ++k) {
      float highest = -__builtin_inff();
      for (int64_t e = e0; e < e1; ++e) {
        float raw = s[(g.edges.src[e] - g.n0) * 2 * H + k] + to[k];
        raw = raw > 0 ? raw : raw * NEGATIVE_SLOPE;
        alpha[(e - first) * H + k] = raw;
        // A NaN stays in its place and spreads by the sum.
        highest = raw > highest ? raw : highest;
      }
      for (int64_t e = e0; e < e1; ++e) alpha[(e - first) * H + k] -= highest;
    }
  }
  const int64_t count = (last - first) * H;
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES) store(alpha + i, exponential(load(alpha + i)));
  if (i < count) store_some(alpha + i, exponential(load_some(alpha + i, count - i, 0)), count - i);
  for (int64_t t = g.n0; t < g.n1; ++t) {
    const int64_t e0 = g.edges.in_ptr[t] - first, e1 = g.edges.in_ptr[t + 1] - first;
    for (int64_t k = 0; k < H; ++k) {
      float total = 0;
      for (int64_t e = e0; e < e1; ++e) total += alpha[e * H + k];
      // A target without edges has no weights to divide.
      const float inverse = 1.0f / total;
      for (int64_t e = e0; e < e1; ++e) alpha[e * H + k] *= inverse;
    }
  }
}

static void aggregate(const GatRange& g, const float* h, const float* alpha, const float* bias,
                      const Epilogue& epilogue, float* out) {
  const int64_t H = g.heads, C = g.channels, W = H * C, first = g.edges.in_ptr[g.n0];
  for (int64_t t = g.n0; t < g.n1; ++t) {
    float* row = out + (t - g.n0) * W;
    __builtin_memcpy(row, bias, sizeof(float) * W);
    for (int64_t e = g.edges.in_ptr[t]; e < g.edges.in_ptr[t + 1]; ++e) {
      const float* source = h + (g.edges.src[e] - g.n0) * W;
      const float* weight = alpha + (e - first) * H;
      for (int64_t k = 0; k < H; ++k) add_scaled(row + k * C, source + k * C, weight[k], C);
    }
    epilogue_row(epilogue, t, W, row);
  }
}

static void pool(const int64_t* node_ptr, int64_t g0, int64_t g1, int64_t width, const float* out,
                 float* pooled) {
  for (int64_t g = g0; g < g1; ++g) {
    float* mean = pooled + g * width;
    __builtin_memset(mean, 0, sizeof(float) * width);
    const int64_t nodes = node_ptr[g + 1] - node_ptr[g];
    for (int64_t n = 0; n < nodes; ++n) {
      add_scaled(mean, out + (node_ptr[g] - node_ptr[g0] + n) * width, 1.0f, width);
    }
    const float inverse = 1.0f / (float)nodes;
    for (int64_t i = 0; i < width; ++i) mean[i] *= inverse;
  }
}

static void epilogue_backward(const GatRange& g, const int64_t* node_ptr, int64_t g0, int64_t g1,
                              const float* out, const float* g_out, const float* g_pooled,
                              const Epilogue& epilogue, float* gz, float* g_bias) {
  const int64_t W = g.heads * g.channels;
  const bool masked = epilogue.relu;
  const float scale = epilogue.dropout ? epilogue.keep_scale : 1.0f;
  for (int64_t graph = g0; graph < g1; ++graph) {
    const float share = 1.0f / (float)(node_ptr[graph + 1] - node_ptr[graph]);
    const float* from_pool = g_pooled ? g_pooled + graph * W : nullptr;
    for (int64_t n = node_ptr[graph] - g.n0; n < node_ptr[graph + 1] - g.n0; ++n) {
      const float* from_out = g_out ? g_out + n * W : nullptr;
      const float* y = out + n * W;
      float* z = gz + n * W;
      int64_t i = 0;
      for (; i + LANES <= W; i += LANES) {
        v8 v = from_out ? load(from_out + i) : splat(0);
        if (from_pool) v += load(from_pool + i) * share;
        // After ReLU and dropout exactly the elements that passed both are above zero.
        if (masked) v = load(y + i) > splat(0) ? v * scale : splat(0);
        store(z + i, v);
        store(g_bias + i, load(g_bias + i) + v);
      }
      for (; i < W; ++i) {
        float v = (from_out ? from_out[i] : 0) + (from_pool ? from_pool[i] * share : 0);
        if (masked) v = y[i] > 0 ? v * scale : 0;
        z[i] = v;
        g_bias[i] += v;
      }
    }
  }
}

static void attention_backward(const GatRange& g, const float* h, const float* s, const float* alpha,
                               const float* gz, const float* att_src, const float* att_dst, float* gs,
                               float* gh, float* g_att_src, float* g_att_dst) {
  const int64_t H = g.heads, C = g.channels, W = H * C, first = g.edges.in_ptr[g.n0];
  __builtin_memset(gs, 0, sizeof(float) * (g.n1 - g.n0) * 2 * H);
  __builtin_memset(gh, 0, sizeof(float) * (g.n1 - g.n0) * W);
  for (int64_t t = g.n0; t < g.n1; ++t) {
    const int64_t to = t - g.n0, e0 = g.edges.in_ptr[t], e1 = g.edges.in_ptr[t + 1];
    const float* z = gz + to * W;
    for (int64_t k = 0; k < H; ++k) {
      // Softmax: d raw = alpha * (d alpha - sum over the target's edges of alpha * d alpha). d alpha is wanted
      // twice; it is cheaper computed again than kept, except that most targets have few edges.
      constexpr int64_t KEPT = 32;
      float wanted[KEPT];
      float mean = 0;
      for (int64_t e = e0; e < e1; ++e) {
        const float d = dot(z + k * C, h + (g.edges.src[e] - g.n0) * W + k * C, C);
        if (e - e0 < KEPT) wanted[e - e0] = d;
        mean += alpha[(e - first) * H + k] * d;
      }
      for (int64_t e = e0; e < e1; ++e) {
        const int64_t from = g.edges.src[e] - g.n0;
        const float weight = alpha[(e - first) * H + k];
        const float d = e - e0 < KEPT ? wanted[e - e0] : dot(z + k * C, h + from * W + k * C, C);
        const float raw = s[from * 2 * H + k] + s[to * 2 * H + H + k];
        const float score = weight * (d - mean) * (raw > 0 ? 1.0f : NEGATIVE_SLOPE);
        gs[from * 2 * H + k] += score;
        gs[to * 2 * H + H + k] += score;
        add_scaled(gh + from * W + k * C, z + k * C, weight, C);
      }
    }
  }
  for (int64_t n = 0; n < g.n1 - g.n0; ++n) {
    for (int64_t k = 0; k < H; ++k) {
      const float from = gs[n * 2 * H + k], to = gs[n * 2 * H + H + k];
      add_scaled(gh + n * W + k * C, att_src + k * C, from, C);
      add_scaled(gh + n * W + k * C, att_dst + k * C, to, C);
      add_scaled(g_att_src + k * C, h + n * W + k * C, from, C);
      add_scaled(g_att_dst + k * C, h + n * W + k * C, to, C);
    }
  }
}

static void dropout_mask(const Epilogue& e, int64_t n0, int64_t n1, int64_t width, float* mask) {
  for (int64_t n = n0; n < n1; ++n) {
    float* row = mask + (n - n0) * width;
    for (int64_t i = 0; i < width; ++i) row[i] = 1.0f;
    epilogue_row(e, n, width, row);
  }
}
