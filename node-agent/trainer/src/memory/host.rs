//! A CPU's memory: nothing is reserved, and a process that takes too much is ended by the kernel, so there is
//! nothing to search for. Told all the same.

use std::fs::read_to_string;

use super::{DeviceMemory, Pressure};

pub struct Host;

impl DeviceMemory for Host {
    fn pressure(&self) -> Option<Pressure> {
        let resident = bytes("/proc/self/status", "VmRSS:")?;
        let free = bytes("/proc/meminfo", "MemAvailable:")?;
        Some(Pressure { allocated: resident, reserved: resident, free })
    }

    fn peak(&self) -> Option<u64> {
        bytes("/proc/self/status", "VmHWM:")
    }

    fn forget_peak(&self) {}

    fn release(&self) {}

    fn budget(&self) -> Option<u64> {
        None
    }
}

/// A line like `VmRSS:  1234 kB`.
fn bytes(file: &str, field: &str) -> Option<u64> {
    let text = read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_resident_peak_and_free_memory() {
        let now = Host.pressure().unwrap();
        assert!(now.reserved > 1 << 20 && now.free > 0);
        assert!(Host.peak().unwrap() > 1 << 20);
        assert_eq!(Host.budget(), None);
    }
}
