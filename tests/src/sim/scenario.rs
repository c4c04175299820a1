//! What a seed means: the fleet, the plans, and which faults may happen. Not every seed has every fault:
//! some bugs need a calm sea with one wave.

use super::faults::{Fault, Menu};
use super::rng::Rng;
use common::messages::DeviceKind;

#[derive(Debug, Clone)]
pub struct Scenario {
    pub coordinators: usize,
    pub nodes: Vec<Vec<DeviceSpec>>,
    pub plans: Vec<PlanSpec>,
    pub cancels_at: Vec<u64>,
    pub pauses_at: Vec<u64>,
    /// When what was lost is tried again by hand.
    pub retry_at: Option<u64>,
    pub menu: Menu,
    pub faults: Vec<(u64, Fault)>,
    /// From here on nothing fails any more.
    pub heal_at: u64,
    /// MiB of GPU memory that teacher, student and fusion ask for.
    pub need_gpu_mib: [u64; 3],
}

#[derive(Debug, Clone)]
pub struct DeviceSpec {
    pub name: String,
    pub kind: DeviceKind,
    pub total_mib: u64,
    pub max_jobs: u32,
}

#[derive(Debug, Clone)]
pub struct PlanSpec {
    pub at: u64,
    pub datasets: Vec<usize>,
    /// Raised = other captures.
    pub data_version: u64,
    /// Raised = another learning rate, by phase.
    pub config_version: [u64; 3],
    pub force: Vec<String>,
    pub downstream: bool,
    pub only: Vec<usize>,
    /// Applied although the base moved meanwhile: two admins at the same moment.
    pub careless: bool,
    pub priority: i32,
}

pub const DATASETS: [&str; 3] = ["hcrl_sa", "set_01", "set_02"];
/// Main memory that every phase asks for.
pub const NEED_CPU_MIB: u64 = 1500;

impl Scenario {
    pub fn of(rng: &mut Rng) -> Scenario {
        let coordinators = if rng.chance(500) { 2 } else { 1 };
        let nodes: Vec<Vec<DeviceSpec>> = (0..rng.range(1, 4)).map(|n| devices(rng, n)).collect();
        let largest = nodes.iter().flatten().filter(|d| d.kind == DeviceKind::Gpu).map(|d| d.total_mib).max();
        // Each job fits somewhere: one that never fits waits for ever, and rightly so.
        let top = largest.map_or(8000, |mib| mib * 850 / 1000);
        let need_gpu_mib = [0; 3].map(|_| rng.range(2000, top.min(22_000)));
        let heal_at = rng.range(40_000, 160_000);
        let menu = Menu::of(rng);
        let mut plans: Vec<PlanSpec> = (0..plan_count(rng)).map(|n| plan(rng, n, heal_at)).collect();
        if rng.chance(250) {
            // The same once more: what failed or was cancelled is tried again.
            let at = rng.range(10_000, heal_at + 120_000);
            plans.push(PlanSpec { at, ..plans[0].clone() });
        }
        let cancels = if rng.chance(250) { rng.range(1, 2) } else { 0 };
        let cancels_at = (0..cancels).map(|_| rng.range(3_000, heal_at)).collect();
        let pauses = if rng.chance(200) { rng.range(1, 2) } else { 0 };
        let pauses_at = (0..pauses).map(|_| rng.range(3_000, heal_at)).collect();
        let retry_at = rng.chance(200).then(|| rng.range(20_000, heal_at + 60_000));
        let faults = menu.schedule(rng, coordinators, nodes.len(), heal_at);
        Scenario {
            coordinators,
            nodes,
            plans,
            cancels_at,
            pauses_at,
            retry_at,
            menu,
            faults,
            heal_at,
            need_gpu_mib,
        }
    }
}

fn plan_count(rng: &mut Rng) -> u64 {
    match rng.range(0, 9) {
        0..=5 => 1,
        6..=8 => 2,
        _ => 3,
    }
}

fn devices(rng: &mut Rng, node: u64) -> Vec<DeviceSpec> {
    let gpu = |rng: &mut Rng, i: u64| DeviceSpec {
        name: format!("GPU-{node}-{i}"),
        kind: DeviceKind::Gpu,
        total_mib: *rng.pick(&[10_240, 24_564, 81_920]),
        max_jobs: rng.range(1, 3) as u32,
    };
    let cpu = |rng: &mut Rng| DeviceSpec {
        name: "cpu".into(),
        kind: DeviceKind::Cpu,
        total_mib: *rng.pick(&[2_000, 8_000, 16_000]),
        max_jobs: rng.range(1, 2) as u32,
    };
    match rng.range(0, 5) {
        0 => vec![cpu(rng)],
        1 => vec![gpu(rng, 0), cpu(rng)],
        2 => vec![gpu(rng, 0), gpu(rng, 1)],
        _ => vec![gpu(rng, 0)],
    }
}

fn plan(rng: &mut Rng, n: u64, heal_at: u64) -> PlanSpec {
    let datasets = match rng.range(0, 9) {
        0..=4 => vec![0],
        5..=7 => vec![0, 1],
        _ => vec![0, 1, 2],
    };
    let force = match rng.range(0, 11) {
        0 => vec!["all".to_owned()],
        1 => vec!["hcrl_sa/teacher".to_owned()],
        2 => vec!["student".to_owned()],
        3 => vec!["*/fusion,hcrl_sa/student".to_owned()],
        _ => vec![],
    };
    let later = n > 0;
    PlanSpec {
        at: if n == 0 { rng.range(500, 5_000) } else { rng.range(1_000, heal_at + 20_000) },
        datasets,
        data_version: u64::from(later && rng.chance(150)),
        config_version: [0; 3].map(|_| u64::from(later && rng.chance(200))),
        force,
        downstream: rng.chance(400),
        only: if rng.chance(100) { vec![rng.index(3)] } else { vec![] },
        careless: rng.chance(300),
        priority: rng.range(0, 2) as i32,
    }
}
