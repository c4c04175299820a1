// Batch normalisation and the wide heads; part of kernels.cpp.
#pragma once

static void moments(const float* x, int64_t rows, int64_t width, float* mean, float* centred_squares) {
  __builtin_memset(mean, 0, sizeof(float) * width);
  __builtin_memset(centred_squares, 0, sizeof(float) * width);
  for (int64_t r = 0; r < rows; ++r) add_scaled(mean, x + r * width, 1.0f, width);
  for (int64_t i = 0; i < width; ++i) mean[i] /= (float)rows;
  for (int64_t r = 0; r < rows; ++r) {
    const float* row = x + r * width;
    int64_t i = 0;
    for (; i + LANES <= width; i += LANES) {
      const v8 d = load(row + i) - load(mean + i);
      store(centred_squares + i, load(centred_squares + i) + d * d);
    }
    for (; i < width; ++i) centred_squares[i] += (row[i] - mean[i]) * (row[i] - mean[i]);
  }
}

static void affine(const float* x, int64_t n0, int64_t n1, int64_t width, const float* scale,
                   const float* shift, const Epilogue& e, float* out) {
  for (int64_t n = n0; n < n1; ++n) {
    const float* row = x + (n - n0) * width;
    float* to = out + (n - n0) * width;
    int64_t i = 0;
    for (; i + LANES <= width; i += LANES) store(to + i, load(row + i) * load(scale + i) + load(shift + i));
    for (; i < width; ++i) to[i] = row[i] * scale[i] + shift[i];
    epilogue_row(e, n, width, to);
  }
}

SHIM_INLINE v8 masked(const Epilogue& e, float scale, v8 out, v8 gradient) {
  return e.relu ? (out > splat(0) ? gradient * scale : splat(0)) : gradient;
}

static void affine_sums(const float* x, const float* out, const float* g_out, int64_t rows, int64_t width,
                        const float* mean, const float* inv_std, const Epilogue& e, float* g_scale,
                        float* g_shift) {
  const float keep = e.dropout ? e.keep_scale : 1.0f;
  for (int64_t r = 0; r < rows; ++r) {
    const float *xr = x + r * width, *yr = out + r * width, *gr = g_out + r * width;
    for (int64_t i = 0; i < width; i += LANES) {
      const int64_t n = width - i < LANES ? width - i : LANES;
      const bool whole = n == LANES;
      auto get = [&](const float* p) { return whole ? load(p + i) : load_some(p + i, n, 0); };
      auto put = [&](float* p, v8 v) { whole ? store(p + i, v) : store_some(p + i, v, n); };
      const v8 gz = masked(e, keep, get(yr), get(gr));
      put(g_shift, get(g_shift) + gz);
      put(g_scale, get(g_scale) + gz * (get(xr) - get(mean)) * get(inv_std));
    }
  }
}

static void affine_backward(const float* x, const float* out, const float* g_out, int64_t rows,
                            int64_t width, const float* mean, const float* inv_std, const float* factor,
                            const float* a, const float* b, const Epilogue& e, float* gx) {
  const float keep = e.dropout ? e.keep_scale : 1.0f;
  for (int64_t r = 0; r < rows; ++r) {
    const float *xr = x + r * width, *yr = out + r * width, *gr = g_out + r * width;
    for (int64_t i = 0; i < width; i += LANES) {
      const int64_t n = width - i < LANES ? width - i : LANES;
      const bool whole = n == LANES;
      auto get = [&](const float* p) { return whole ? load(p + i) : load_some(p + i, n, 0); };
      const v8 gz = masked(e, keep, get(yr), get(gr));
      const v8 xhat = (get(xr) - get(mean)) * get(inv_std);
      const v8 v = get(factor) * (gz - get(a) - xhat * get(b));
      whole ? store(gx + r * width + i, v) : store_some(gx + r * width + i, v, n);
    }
  }
}

static float softplus_row(float* row, const float* bias, int64_t width, bool gradient) {
  // softplus(v) = max(v, 0) + log(1 + e^-|v|). The factors 1 + e^-|v| lie in (1, 2]: a product of 64 of them
  // stays below 2^64, so one logarithm serves 64 elements of a lane.
  constexpr int64_t FACTORS = 64;
  v8 total = splat(0), product = splat(1);
  double logs = 0;
  int64_t factors = 0;
  auto fold = [&] {
    for (int64_t k = 0; k < LANES; ++k) logs += __builtin_log((double)product[k]);
    product = splat(1);
    factors = 0;
  };
  for (int64_t i = 0; i < width; i += LANES) {
    const int64_t n = width - i < LANES ? width - i : LANES;
    const bool whole = n == LANES;
    // Lanes beyond the end: softplus(-1e4) is 0.
    const v8 v = whole ? load(row + i) + load(bias + i)
                       : load_some(row + i, n, -1e4f) + load_some(bias + i, n, 0);
    const v8 e = exponential(-magnitude(v));
    const v8 one_more = e + 1.0f;
    total += v < splat(0) ? splat(0) : v;
    product *= one_more;
    if (++factors == FACTORS) fold();
    const v8 result = gradient ? (v < splat(0) ? e : splat(1)) / one_more : v;
    whole ? store(row + i, result) : store_some(row + i, result, n);
  }
  fold();
  return (float)(sum(total) + logs);
}

static float logsumexp_row(float* row, const float* bias, int64_t width, bool gradient) {
  v8 high = splat(-__builtin_inff());
  for (int64_t i = 0; i < width; i += LANES) {
    const int64_t n = width - i < LANES ? width - i : LANES;
    const bool whole = n == LANES;
    const v8 v = whole ? load(row + i) + load(bias + i)
                       : load_some(row + i, n, -__builtin_inff()) + load_some(bias + i, n, 0);
    high = larger(high, v);
    whole ? store(row + i, v) : store_some(row + i, v, n);
  }
  float highest = high[0];
  for (int64_t k = 1; k < LANES; ++k) highest = high[k] > highest ? high[k] : highest;
  v8 total = splat(0);
  for (int64_t i = 0; i < width; i += LANES) {
    const int64_t n = width - i < LANES ? width - i : LANES;
    const bool whole = n == LANES;
    const v8 v = whole ? load(row + i) : load_some(row + i, n, -__builtin_inff());
    v8 e = exponential(v - highest);
    if (!whole) {
      for (int64_t k = n; k < LANES; ++k) e[k] = 0;
    }
    total += e;
    if (gradient) whole ? store(row + i, e) : store_some(row + i, e, n);
  }
  const float all = sum(total);
  if (gradient) {
    const float inverse = 1.0f / all;
    for (int64_t i = 0; i < width; ++i) row[i] *= inverse;
  }
  return highest + (float)__builtin_log((double)all);
}

static void add_row(float* sums, const float* row, int64_t width) { add_scaled(sums, row, 1.0f, width); }
