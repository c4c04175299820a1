#include "kernels.h"

namespace shim {

extern const Kernels kernels_baseline;
#ifdef SHIM_HAS_AVX2
extern const Kernels kernels_avx2;
#endif

const Kernels& kernels() {
#ifdef SHIM_HAS_AVX2
  static const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx2) return kernels_avx2;
#endif
  return kernels_baseline;
}

}  // namespace shim
