// Compiled once per instruction set; SHIM_KERNELS names the table. Nothing here may be inline in the linker's
// sense (no standard library): a copy made for a newer processor must never serve an older one.
#include "kernels.h"

#include "simd.h"

namespace shim {
namespace {
#include "kernels_gat.h"

#include "kernels_dense.h"
}  // namespace

#define SHIM_TEXT_(x) #x
#define SHIM_TEXT(x) SHIM_TEXT_(x)

extern const Kernels SHIM_KERNELS;
const Kernels SHIM_KERNELS = {
    SHIM_TEXT(SHIM_KERNELS), scores,   softmax, aggregate, pool,        epilogue_backward,
    attention_backward,      dropout_mask, moments, affine,    affine_sums, affine_backward,
    softplus_row,            logsumexp_row, add_row,
};

}  // namespace shim
