//! Quantiles of times, and what a process has used.

use nix::unistd::{SysconfVar, sysconf};
use std::time::Duration;

/// `share` of the times is not longer; the middle one at 0.5.
pub fn quantile(times: &mut [Duration], share: f64) -> Duration {
    assert!(!times.is_empty(), "nothing was measured");
    times.sort_unstable();
    times[((times.len() - 1) as f64 * share).round() as usize]
}

pub fn row(times: &mut [Duration]) -> String {
    let ms = |share, times: &mut [Duration]| quantile(times, share).as_secs_f64() * 1e3;
    format!("p50 {:.1} ms, p99 {:.1} ms ({} times)", ms(0.5, times), ms(0.99, times), times.len())
}

/// Processor time that a process has used so far, from /proc.
pub fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    // The second field is the name in parentheses and may hold anything.
    let after = stat.rsplit_once(')').expect("a name in parentheses").1;
    let fields: Vec<&str> = after.split_whitespace().collect();
    // Fields 14 and 15 of proc(5): user and system time in clock ticks.
    let ticks: u64 = [fields[11], fields[12]].iter().map(|f| f.parse::<u64>().expect("ticks")).sum();
    let per_s = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
    Duration::from_secs_f64(ticks as f64 / per_s as f64)
}

/// Memory of a process that is in use now, in MiB.
pub fn memory_mib(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().expect("KiB");
    kib / 1024.0
}
