//! CPU time of training steps, robust against a busy machine because it counts this process's own seconds:
//! `cargo run --release -p trainer --example step_cost -- <folder of the dataset> <cache folder> [threads]`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::config::semantic::{GatArch, GatSemantic, ModelSize, VgaeArch, VgaeSemantic};
use dataset::{GraphSet, PrepareConfig, PrepareTuning};
use tch::Device;
use trainer::fit::listener::Silent;
use trainer::fit::loader::Loader;
use trainer::fit::step::{Stepper, Task};
use trainer::fit::{Evaluator, Trainee, seed};
use trainer::memory::Memory;
use trainer::nn::{gat::Gat, vgae::Vgae};
use trainer::optim::{Adam, AdamConfig, WeightDecay};
use trainer::phase::gat_fit::GatTrainee;
use trainer::phase::score;
use trainer::phase::vgae_fit::VgaeTrainee;

const BATCH: usize = 64;
const STEPS: usize = 12;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [captures, cache, rest @ ..] = args.as_slice() else {
        eprintln!("usage: step_cost <folder of the dataset> <cache folder> [threads]");
        std::process::exit(2);
    };
    trainer::runtime::init();
    trainer::runtime::set_threads(rest.first().map_or(1, |n| n.parse().expect("threads is a number")));
    let captures = std::fs::canonicalize(captures).expect("the folder of captures exists");
    let (root, name) =
        (captures.parent().unwrap_or(Path::new("/")), captures.file_name().unwrap_or_default());
    let layout = dataset::layout::find(root, &name.to_string_lossy()).expect("captures");
    let tuning = PrepareTuning { cache_dir: Some(PathBuf::from(cache)), ..PrepareTuning::default() };
    let prepared = dataset::prepare(&layout, &PrepareConfig::default(), &tuning, &|_| {}).expect("graphs");
    let num_ids = i64::from(prepared.vocabulary.num_ids());
    for size in [ModelSize::Large, ModelSize::Small] {
        seed::seed_torch(1, "cost", &[]);
        let gat = Gat::new(&GatArch::of_size(size), num_ids, Device::Cpu);
        let semantic = GatSemantic::of_size(size);
        let trainee = GatTrainee::new(&gat, &semantic, &prepared.train.label, None);
        cost(&format!("gat {size:?} training"), &trainee, &prepared.train);
        let pool: Vec<u32> = (0..(BATCH * STEPS) as u32).collect();
        let (mut loader, mut silent) = (Loader::new(Device::Cpu), Silent);
        report(&format!("gat {size:?} inference"), || {
            let mut evaluator = Evaluator::of_passes(&mut loader, &mut silent, BATCH, "gat", 1);
            let _ = score::gat_logits(&gat, &mut evaluator, &prepared.train, &pool).expect("logits");
        });
        let vgae = Vgae::new(&VgaeArch::of_size(size), num_ids, Device::Cpu);
        let semantic = VgaeSemantic::of_size(size);
        cost(&format!("vgae {size:?} training"), &VgaeTrainee::new(&vgae, &semantic, None), &prepared.train);
        report(&format!("vgae {size:?} inference"), || {
            let mut evaluator = Evaluator::of_passes(&mut loader, &mut silent, BATCH, "vgae", 1);
            score::errors(&vgae, &mut evaluator, &prepared.train, &pool).expect("scores");
        });
    }
}

fn cost(what: &str, trainee: &dyn Trainee, set: &GraphSet) {
    let trainable = trainee.variables().into_iter().filter(|(_, tensor)| tensor.requires_grad());
    let config = AdamConfig::new(1e-3, WeightDecay::L2(1e-4));
    let mut adam = Adam::new(trainable, config).expect("optimiser");
    let mut stepper = Stepper::new(BATCH as u32, BATCH as u32, 1.0, trainee.variables(), Memory::unwatched());
    let mut loader = Loader::new(Device::Cpu);
    let stride = (set.len() / (BATCH * STEPS)).max(1);
    let chosen: Vec<u32> = (0..set.len() as u32).step_by(stride).take(BATCH * STEPS).collect();
    report(what, || {
        for part in chosen.chunks(BATCH) {
            let task = Task { set, chosen: part, reseed: &|| {} };
            let _ = stepper.step(trainee, &mut adam, &mut loader, task, &mut Silent).expect("step");
        }
    });
}

/// One round to warm up, one that counts.
fn report(what: &str, mut round: impl FnMut()) {
    round();
    let (cpu, wall) = (cpu_time(), Instant::now());
    round();
    let graphs = (BATCH * STEPS) as f64;
    let (cpu, wall) = ((cpu_time() - cpu).as_secs_f64(), wall.elapsed().as_secs_f64());
    println!("{what:24} {:7.0} graphs per CPU second, {:7.0} per second", graphs / cpu, graphs / wall);
}

/// User and system time of this process.
fn cpu_time() -> Duration {
    // SAFETY: getrusage fills the struct it is given; zeroed is a valid value of plain integers.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let of = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
    of(usage.ru_utime) + of(usage.ru_stime)
}
