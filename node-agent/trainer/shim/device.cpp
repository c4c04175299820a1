// Memory of a CUDA device, through the interface that every device's allocator has in libtorch_cpu: this program
// links no CUDA library.
#include <c10/core/CachingDeviceAllocator.h>

#include "boundary.h"

namespace {

c10::DeviceAllocator* allocator() { return c10::getDeviceAllocator(c10::DeviceType::CUDA); }

int64_t total(const c10::CachingAllocator::Stat& stat) { return stat.current; }

}  // namespace

// allocated, reserved, peak of allocated, free; bytes.
extern "C" char* shim_device_memory(int32_t index, int64_t* out) {
  return shim::guarded([&] {
    const auto device = static_cast<c10::DeviceIndex>(index);
    const auto stats = allocator()->getDeviceStats(device);
    const auto all = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    out[0] = total(stats.allocated_bytes[all]);
    out[1] = total(stats.reserved_bytes[all]);
    out[2] = stats.allocated_bytes[all].peak;
    out[3] = static_cast<int64_t>(allocator()->getMemoryInfo(device).first);
  });
}

extern "C" char* shim_device_forget_peak(int32_t index) {
  return shim::guarded([&] { allocator()->resetPeakStats(static_cast<c10::DeviceIndex>(index)); });
}

extern "C" char* shim_device_release(void) {
  return shim::guarded([&] { allocator()->emptyCache(); });
}
