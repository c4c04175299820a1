//! The machine itself as a device: its main memory, or what its cgroup may use of it.

use crate::{DeviceSample, Probe, ProbeError};
use common::ids::DeviceId;
use common::messages::DeviceKind;
use common::units::Mib;
use std::fs;

/// Id of the device that stands for the machine's own processors and memory.
pub const CPU_DEVICE: &str = "cpu";

#[derive(Debug, Default)]
pub struct CpuProbe;

impl Probe for CpuProbe {
    fn sample(&self) -> Result<Vec<DeviceSample>, ProbeError> {
        let path = "/proc/meminfo";
        let meminfo =
            fs::read_to_string(path).map_err(|source| ProbeError::Read { path: path.to_owned(), source })?;
        let machine = Memory::of_meminfo(&meminfo)
            .ok_or_else(|| ProbeError::Format { path: path.to_owned(), problem: "no MemTotal".to_owned() })?;
        let memory = Memory::of_cgroup("/sys/fs/cgroup").map_or(machine, |group| machine.within(group));
        Ok(vec![DeviceSample {
            id: DeviceId::new(CPU_DEVICE).expect("letters"),
            kind: DeviceKind::Cpu,
            model: fs::read_to_string("/proc/cpuinfo").map_or_else(|_| "CPU".to_owned(), |t| model_name(&t)),
            total_mib: memory.total,
            used_mib: memory.used,
            processes: None,
            utilization_percent: None,
            fault: None,
        }])
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Memory {
    total: Mib,
    used: Option<Mib>,
}

impl Memory {
    /// `None` without a line `MemTotal`.
    fn of_meminfo(text: &str) -> Option<Memory> {
        let kib = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
        };
        let total = kib("MemTotal")?;
        let used = kib("MemAvailable").map(|available| total.saturating_sub(available));
        Some(Memory { total: Mib(total / 1024), used: used.map(|kib| Mib(kib.div_ceil(1024))) })
    }

    /// Limit and use of a version 2 cgroup; `None` when there is no limit. Files that were read and may be
    /// dropped at any time (`inactive_file`) are not counted as used.
    fn of_cgroup(folder: &str) -> Option<Memory> {
        let read = |name: &str| fs::read_to_string(format!("{folder}/{name}")).ok();
        let number = |text: String| text.trim().parse::<u64>().ok();
        let total = number(read("memory.max")?)?;
        let stat = read("memory.stat").unwrap_or_default();
        let droppable = stat.lines().find_map(|l| l.strip_prefix("inactive_file ")?.parse::<u64>().ok());
        let current = read("memory.current").and_then(number);
        let used = current.map(|bytes| bytes.saturating_sub(droppable.unwrap_or(0)));
        Some(Memory { total: Mib(total >> 20), used: used.map(Mib::from_bytes_ceil) })
    }

    /// The tighter of the two.
    fn within(self, group: Memory) -> Memory {
        if group.total < self.total { group } else { self }
    }
}

fn model_name(cpuinfo: &str) -> String {
    let named = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    named.map_or_else(|| "CPU".to_owned(), |(_, name)| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn used_is_what_is_not_available() {
        let text = "MemTotal:       16384000 kB\nMemFree:  100 kB\nMemAvailable:   8191000 kB\n";
        assert_eq!(Memory::of_meminfo(text), Some(Memory { total: Mib(16_000), used: Some(Mib(8_001)) }));
        let old_kernel = Memory::of_meminfo("MemTotal: 2048 kB\n");
        assert_eq!(old_kernel, Some(Memory { total: Mib(2), used: None }));
        assert_eq!(Memory::of_meminfo("something else"), None);
    }

    #[test]
    fn a_container_has_its_own_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        assert_eq!(Memory::of_cgroup(path), None);
        write("memory.max", "max\n");
        assert_eq!(Memory::of_cgroup(path), None);
        write("memory.max", "1073741824\n");
        write("memory.current", "536870912\n");
        write("memory.stat", "anon 5\ninactive_file 104857600\n");
        let group = Memory { total: Mib(1024), used: Some(Mib(412)) };
        assert_eq!(Memory::of_cgroup(path), Some(group));
        let machine = Memory { total: Mib(16_000), used: Some(Mib(8_000)) };
        assert_eq!(machine.within(group), group);
    }

    #[test]
    fn this_machine_has_a_cpu() {
        let samples = CpuProbe.sample().unwrap();
        assert_eq!(samples[0].id.as_str(), "cpu");
        assert!(samples[0].total_mib > Mib(0) && !samples[0].model.is_empty());
    }
}
