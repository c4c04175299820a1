// The mask the fused layers apply, for the plain reference; one Adam step over many tensors.
#include <ATen/ops/_fused_adam.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/full.h>

#include "boundary.h"
#include "parallel.h"

// Name of the instruction set in use, or null where nothing here works.
extern "C" const char* shim_kernels(void) { return shim::have_blas() ? shim::kernels().name : nullptr; }

extern "C" char* shim_dropout_mask(int64_t rows, int64_t width, double dropout, uint64_t seed, at::Tensor** out) {
  return shim::guarded([&] {
    const shim::Epilogue e = shim::epilogue(false, dropout, seed);
    at::Tensor mask = shim::floats({rows, width});
    shim::kernels().dropout_mask(e, 0, rows, width, mask.data_ptr<float>());
    *out = shim::give(mask);
  });
}

// `step` counts from 1. With `decoupled` as AdamW, else as Adam with an L2 penalty.
extern "C" char* shim_adam(int64_t count, const at::Tensor* const* weights, const at::Tensor* const* grads,
                           const at::Tensor* const* first, const at::Tensor* const* second, int64_t step,
                           double lr, double beta1, double beta2, double eps, double decay, bool decoupled) {
  return shim::guarded([&] {
    std::vector<at::Tensor> w, g, m, v, steps;
    for (int64_t i = 0; i < count; ++i) {
      w.push_back(weights[i]->detach());
      g.push_back(grads[i]->contiguous());
      m.push_back(*first[i]);
      v.push_back(*second[i]);
      steps.push_back(at::full({}, static_cast<double>(step), at::TensorOptions().dtype(at::kFloat)));
    }
    if (decoupled) {
      at::_fused_adamw_(w, g, m, v, {}, steps, lr, beta1, beta2, decay, eps, false, false);
    } else {
      at::_fused_adam_(w, g, m, v, {}, steps, lr, beta1, beta2, decay, eps, false, false);
    }
  });
}
