//! Makespan of the real placement against the lower bound, on random heterogeneous fleets.
//!
//! `cargo bench -p coordinator-core --bench makespan [-- SEEDS]`. Ends with an error when the median ratio is
//! above 1.10 or the worst above 1.35.

use common::config::Config;
use common::ids::{DatasetId, DeviceId, NodeId, Phase};
use common::messages::DeviceKind;
use common::plan::{MemoryNeed, ModelNeed, Plan};
use common::units::{Mib, UnixMs};
use coordinator_core::placement::{Fleet, Room};
use coordinator_core::planner::history::History;
use coordinator_core::planner::predict::{Question, forecast};
use coordinator_core::planner::{Base, DatasetRequest, PhaseRequest, Request, plan};
use std::collections::BTreeMap;

const SEEDS: u64 = 1000;
/// Cards as NVML names them, with their memory.
const CARDS: [(&str, u64); 7] = [
    ("NVIDIA GeForce RTX 3080", 10_240),
    ("Tesla T4", 15_360),
    ("NVIDIA L4", 23_034),
    ("NVIDIA GeForce RTX 4090", 24_564),
    ("NVIDIA A100-SXM4-40GB", 40_960),
    ("NVIDIA A100-SXM4-40GB MIG 3g.20gb", 20_096),
    ("NVIDIA H100 80GB HBM3", 81_559),
];
const MINUTES: [f64; 3] = [45.0, 35.0, 60.0];

/// xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled", 2016).
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn range(&mut self, from: u64, to: u64) -> u64 {
        from + self.next() % (to - from + 1)
    }

    /// Between the two, evenly on a scale of ratios.
    fn ratio(&mut self, from: f64, to: f64) -> f64 {
        let share = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        from * (to / from).powf(share)
    }
}

fn fleet(rng: &mut Rng, config: &Config) -> Fleet {
    let mut rooms = Vec::new();
    for node in 0..rng.range(1, 6) {
        let (model, total) = CARDS[rng.range(0, CARDS.len() as u64 - 1) as usize];
        let (_, profile) = config.profiles.profile_for(model, Mib(total));
        for card in 0..rng.range(1, 4) {
            rooms.push(Room {
                node: NodeId::new(format!("n{node}")).unwrap(),
                device: DeviceId::new(format!("GPU-{node}-{card}")).unwrap(),
                kind: DeviceKind::Gpu,
                model: model.to_owned(),
                budget_mib: Mib(total).permille(profile.cap_permille()),
                foreign_mib: Some(Mib(0)),
                foreign: Vec::new(),
                holders: Vec::new(),
                max_jobs: profile.max_per_gpu,
                shut: None,
            });
        }
    }
    Fleet::of_rooms(rooms)
}

fn need(config: &Config, dataset: &DatasetId, phase: Phase) -> MemoryNeed {
    let on = |(model, total): &(&str, u64)| ModelNeed {
        kind: DeviceKind::Gpu,
        model: (*model).to_owned(),
        mib: config.memory_ask(dataset, phase, Some((model, Mib(*total)))).0,
        basis: "conf".into(),
        micro_batch_max: None,
    };
    MemoryNeed { on: CARDS.iter().map(on).collect(), ..MemoryNeed::flat(Mib(8192), Mib(2048), "conf") }
}

/// Half a chain to four chains for each place of the fleet: from idle devices to long queues.
fn chains(rng: &mut Rng, fleet: &Fleet) -> u64 {
    let places: u32 = fleet.rooms.iter().map(|r| r.max_jobs).sum();
    (f64::from(places) * rng.ratio(0.5, 4.0)).round().clamp(2.0, 32.0) as u64
}

fn random_plan(
    rng: &mut Rng,
    config: &Config,
    depends_on: &BTreeMap<Phase, Vec<Phase>>,
    chains: u64,
) -> Plan {
    let dataset = |rng: &mut Rng, at: u64| {
        let id = DatasetId::new(format!("set_{at:02}")).unwrap();
        let scale = rng.ratio(0.3, 3.0);
        let phase = |phase: Phase| {
            let ms = MINUTES[phase as usize] * 60_000.0 * scale * rng.ratio(0.8, 1.25);
            let request = PhaseRequest {
                semantic: serde_json::json!({}),
                tuning: config.tuning(phase),
                need: need(config, &id, phase),
                expected_ms: ms as u64,
                expected_basis: "drawn".into(),
            };
            (phase, request)
        };
        let phases = Phase::ALL.into_iter().map(phase).collect();
        let digest = Ok(common::digest::Digest::of(b"captures"));
        DatasetRequest { id: id.clone(), digest, priority: 0, phases }
    };
    let datasets = (0..chains).map(|at| dataset(rng, at)).collect();
    let request = Request {
        created: UnixMs(0),
        datasets,
        depends_on: depends_on.clone(),
        options: Default::default(),
        data_url: String::new(),
        missing: BTreeMap::new(),
        traceparent: None,
    };
    plan(&request, &Base::default()).unwrap()
}

fn main() {
    let seeds = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(SEEDS);
    let config = Config::built_in();
    let depends_on: BTreeMap<Phase, Vec<Phase>> =
        Phase::ALL.map(|p| (p, config.pipeline.phases.get(p).depends_on.clone())).into();
    let mut ratios = Vec::new();
    let started = std::time::Instant::now();
    for seed in 1..=seeds {
        let mut rng = Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let fleet = fleet(&mut rng, &config);
        let chains = chains(&mut rng, &fleet);
        let plan = random_plan(&mut rng, &config, &depends_on, chains);
        let history = History::default();
        let question =
            Question { plan: &plan, fleet: &fleet, depends_on: &depends_on, history: &history, seed: None };
        let told = forecast(&question);
        assert_eq!(told.jobs.len(), plan.jobs.len(), "seed {seed}: every job runs");
        let bound = told.lower_bound_ms.expect("every job fits some card");
        ratios.push((told.makespan_ms as f64 / bound as f64, seed, fleet.rooms.len(), plan.jobs.len()));
    }
    let took = started.elapsed();
    ratios.sort_by(|a, b| a.0.total_cmp(&b.0));
    let at = |share: f64| ratios[((ratios.len() - 1) as f64 * share) as usize].0;
    let (worst, seed, devices, jobs) = ratios[ratios.len() - 1];
    println!("makespan / lower bound over {seeds} random fleets ({:.1} s)", took.as_secs_f64());
    println!("| p50 | p90 | p99 | worst |\n|--|--|--|--|");
    println!("| {:.3} | {:.3} | {:.3} | {worst:.3} |", at(0.5), at(0.9), at(0.99));
    println!("worst: seed {seed}, {devices} devices, {jobs} jobs");
    for (ratio, seed, devices, jobs) in ratios.iter().rev().take(12) {
        println!("  {ratio:.3} seed {seed}: {devices} devices, {jobs} jobs");
    }
    assert!(at(0.5) <= 1.10 && worst <= 1.35, "median at most 1.10, worst at most 1.35");
}
