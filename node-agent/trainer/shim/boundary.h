// The C interface: what src/nn/fused/ffi.rs declares. Tensors cross as pointers to at::Tensor, which is what tch
// keeps; results are new tensors that the caller owns. A function returns null, or what went wrong as text to be
// freed with free().
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <cstring>
#include <exception>

#include "kernels.h"

namespace shim {

template <class F>
char* guarded(F&& work) {
  try {
    work();
    return nullptr;
  } catch (const std::exception& error) {
    return strdup(error.what());
  } catch (...) {
    return strdup("an exception of unknown kind");
  }
}

inline at::Tensor* give(at::Tensor tensor) { return new at::Tensor(std::move(tensor)); }

inline Epilogue epilogue(bool relu, double dropout, uint64_t seed) {
  Epilogue e{};
  e.relu = relu;
  e.dropout = dropout > 0;
  e.threshold = static_cast<uint32_t>(dropout * 16777216.0);
  e.keep_scale = static_cast<float>(1.0 / (1.0 - dropout));
  e.seed = seed;
  return e;
}

}  // namespace shim
