//! One side of `scripts/bench_training.py`, which starts it and its counterpart in Python and lets them work in
//! turns: each line on stdin is one round of so many seconds, answered by a line of JSON.
//!
//! `bench_worker prepare <folder of a dataset> <cache folder>` prints the folder of the prepared graphs;
//! `bench_worker <case> <folder of prepared graphs> <batch> <threads>` takes rounds.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::config::semantic::{
    DqnArch, FusionSemantic, GatArch, GatSemantic, ModelSize, VgaeArch, VgaeSemantic,
};
use dataset::{GraphSet, PrepareConfig, PrepareTuning};
use tch::{Device, Kind, Tensor};
use trainer::fit::listener::Silent;
use trainer::fit::loader::Loader;
use trainer::fit::step::{Stepper, Task};
use trainer::fit::{Evaluator, Trainee, seed};
use trainer::nn::{gat::Gat, vgae::Vgae};
use trainer::optim::{Adam, AdamConfig, WeightDecay};
use trainer::phase::fusion::learn::Learner;
use trainer::phase::fusion::scaling::Scaling;
use trainer::phase::fusion::states::{ROW_WIDTH, RawStates};
use trainer::phase::gat_fit::GatTrainee;
use trainer::phase::score;
use trainer::phase::vgae_fit::VgaeTrainee;

/// Cached states of the fusion cases: about the training windows of hcrl_sa.
const STATES: i64 = 7_500;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["prepare", captures, cache] => println!("{}", prepare(captures, cache).display()),
        [case, folder, batch, threads] => {
            let number = |text: &str| text.parse().expect("batch and threads are numbers");
            trainer::runtime::init();
            trainer::runtime::set_threads(number(threads));
            run(case, Path::new(folder), number(batch) as usize);
        }
        _ => {
            eprintln!("usage: see the head of examples/bench_worker.rs");
            std::process::exit(2);
        }
    }
}

fn prepare(captures: &str, cache: &str) -> PathBuf {
    let captures = std::fs::canonicalize(captures).expect("the folder of captures exists");
    let name = captures.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let layout = dataset::layout::find(captures.parent().unwrap_or(Path::new("/")), &name).expect("captures");
    let tuning = PrepareTuning { cache_dir: Some(PathBuf::from(cache)), ..PrepareTuning::default() };
    let prepared = dataset::prepare(&layout, &PrepareConfig::default(), &tuning, &|_| {}).expect("graphs");
    Path::new(cache).join(prepared.report.key.to_string())
}

fn run(case: &str, folder: &Path, batch: usize) {
    let set = || GraphSet::load(&folder.join("train.graphs")).expect("prepared graphs");
    seed::seed_torch(1, "bench", &[]);
    match case {
        "gat-large-train" => train_gat(ModelSize::Large, &set(), batch),
        "gat-small-train" => train_gat(ModelSize::Small, &set(), batch),
        "vgae-large-train" => {
            let set = set();
            let vgae = Vgae::new(&VgaeArch::of_size(ModelSize::Large), num_ids(&set), Device::Cpu);
            let semantic = VgaeSemantic::of_size(ModelSize::Large);
            train(&VgaeTrainee::new(&vgae, &semantic, None), &set, batch);
        }
        "gat-large-infer" => {
            let set = set();
            let gat = Gat::new(&GatArch::of_size(ModelSize::Large), num_ids(&set), Device::Cpu);
            infer(&set, batch, |evaluator, pool| {
                let _ = score::gat_logits(&gat, evaluator, &set, pool).expect("logits");
            });
        }
        "vgae-large-infer" => {
            let set = set();
            let vgae = Vgae::new(&VgaeArch::of_size(ModelSize::Large), num_ids(&set), Device::Cpu);
            infer(&set, batch, |evaluator, pool| {
                score::errors(&vgae, evaluator, &set, pool).expect("scores");
            });
        }
        "dqn-act" => fuse(20_000, 1, batch),
        "dqn-learn" => fuse(128, 16, batch),
        other => panic!("unknown case {other}"),
    }
}

fn num_ids(set: &GraphSet) -> i64 {
    i64::from(set.node_id.iter().copied().max().unwrap_or(0)) + 2
}

fn train_gat(size: ModelSize, set: &GraphSet, batch: usize) {
    let gat = Gat::new(&GatArch::of_size(size), num_ids(set), Device::Cpu);
    train(&GatTrainee::new(&gat, &GatSemantic::of_size(size), &set.label, None), set, batch);
}

/// Whole steps of training, collating included.
fn train(trainee: &dyn Trainee, set: &GraphSet, batch: usize) {
    let trainable = trainee.variables().into_iter().filter(|(_, tensor)| tensor.requires_grad());
    let mut adam = Adam::new(trainable, AdamConfig::new(1e-3, WeightDecay::L2(1e-4))).expect("optimiser");
    let mut stepper = Stepper::new(batch as u32, batch as u32, 1.0, trainee.variables());
    let mut loader = Loader::new(Device::Cpu);
    let batches = batches(set, batch);
    let mut next = (0..batches.len()).cycle();
    rounds(|| {
        let part = &batches[next.next().expect("endless")];
        let task = Task { set, chosen: part, reseed: &|| {} };
        let loss = stepper.step(trainee, &mut adam, &mut loader, task, &mut Silent);
        let _ = loss.expect("step");
        part.len() as u64
    });
}

fn infer(set: &GraphSet, batch: usize, visit: impl Fn(&mut Evaluator<'_>, &[u32])) {
    let batches = batches(set, batch);
    let mut next = (0..batches.len()).cycle();
    let (mut loader, mut silent) = (Loader::new(Device::Cpu), Silent);
    rounds(|| {
        let part = &batches[next.next().expect("endless")];
        visit(&mut Evaluator::of_passes(&mut loader, &mut silent, batch, "bench", 1), part);
        part.len() as u64
    });
}

/// Every graph once, spread evenly: neighbouring windows are of one vehicle and so of one size.
fn batches(set: &GraphSet, batch: usize) -> Vec<Vec<u32>> {
    let n = set.len();
    let count = (n / batch).max(1);
    (0..count).map(|b| (b..n).step_by(count).take(batch).map(|g| g as u32).collect()).collect()
}

/// Episodes of the large agent; a round counts choices with `batch` 0, else gradient steps.
fn fuse(samples: u32, gradient_steps: u32, batch: usize) {
    let rows = Tensor::randn([STATES, ROW_WIDTH], (Kind::Float, Device::Cpu)).abs();
    let truth = (0..STATES).map(|i| Some(u8::from(i % 7 == 0))).collect();
    let raw = RawStates::new(&rows, truth).expect("states");
    let states = Scaling::fit(&raw).expect("scaling").apply(&raw, Device::Cpu);
    let config = FusionSemantic {
        arch: DqnArch::of_size(ModelSize::Large),
        gamma: 0.99,
        epsilon_start: 0.1,
        epsilon_end: 0.1,
        episodes: u32::MAX,
        validate_every_episodes: u32::MAX - 1,
        samples_per_episode: samples,
        gradient_steps_per_episode: gradient_steps,
        batch_size: 128,
        ..Default::default()
    };
    let mut learner = Learner::new(&config, &states, &states).expect("learner");
    rounds(|| {
        learner.run_episode().expect("episode");
        u64::from(if batch == 0 { samples } else { gradient_steps })
    });
}

/// Three units of work to warm up, then rounds as stdin asks for them.
fn rounds(mut work: impl FnMut() -> u64) {
    for _ in 0..3 {
        work();
    }
    println!("{}", serde_json::json!({ "ready": true }));
    for line in std::io::stdin().lock().lines() {
        let seconds: f64 = line.expect("a line").trim().parse().expect("seconds");
        let (cpu, began, mut units) = (cpu_time(), Instant::now(), 0);
        while began.elapsed().as_secs_f64() < seconds {
            units += work();
        }
        let (wall_s, cpu_s) = (began.elapsed().as_secs_f64(), (cpu_time() - cpu).as_secs_f64());
        let answer = serde_json::json!({
            "units": units, "wall_s": wall_s, "cpu_s": cpu_s, "peak_mib": peak_mib(),
        });
        println!("{answer}");
    }
}

/// User and system time of this process.
fn cpu_time() -> Duration {
    let usage = usage();
    let of = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
    of(usage.ru_utime) + of(usage.ru_stime)
}

fn peak_mib() -> i64 {
    usage().ru_maxrss / 1024
}

fn usage() -> libc::rusage {
    // SAFETY: getrusage fills the struct it is given; zeroed is a valid value of plain integers.
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    }
}
