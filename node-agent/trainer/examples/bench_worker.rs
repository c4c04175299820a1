//! One side of `scripts/bench_training.py`, which starts it and its counterpart in Python and lets them work in
//! turns: each line on stdin is one round of so many seconds, answered by a line of JSON.
//!
//! `bench_worker prepare <folder of a dataset> <cache folder>` prints the folder of the prepared graphs;
//! `bench_worker <case> <folder of prepared graphs> <batch> <threads> [cpu | cuda:N]` takes rounds;
//! `bench_worker compare <folder of prepared graphs> [cpu | cuda:N]` prints how far losses and gradients on the
//! device lie from those of plain libtorch on the CPU.

#[path = "support/compare.rs"]
mod compare;

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::config::semantic::{
    DqnArch, FusionSemantic, GatArch, GatSemantic, ModelSize, VgaeArch, VgaeSemantic,
};
use common::units::Mib;
use dataset::{GraphSet, PrepareConfig, PrepareTuning};
use tch::{Device, Kind, Tensor};
use trainer::fit::listener::Silent;
use trainer::fit::loader::Loader;
use trainer::fit::step::{Stepper, Task};
use trainer::fit::{Evaluator, Trainee, seed};
use trainer::memory::Memory;
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
        ["compare", folder, rest @ ..] => {
            trainer::runtime::init();
            compare::run(Path::new(folder), device(rest.first().copied()));
        }
        [case, folder, batch, threads, rest @ ..] => {
            let number = |text: &str| text.parse().expect("batch and threads are numbers");
            trainer::runtime::init();
            trainer::runtime::set_threads(number(threads));
            let bench = Bench { device: device(rest.first().copied()), batch: number(batch) as usize };
            bench.run(case, Path::new(folder));
        }
        _ => {
            eprintln!("usage: see the head of examples/bench_worker.rs");
            std::process::exit(2);
        }
    }
}

fn device(name: Option<&str>) -> Device {
    match name.unwrap_or("cpu").split_once(':') {
        None => Device::Cpu,
        Some((_, index)) => {
            let index = index.parse().expect("cuda:N");
            assert!(tch::Cuda::device_count() > index as i64, "CUDA device {index} does not answer");
            Device::Cuda(index)
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

fn num_ids(set: &GraphSet) -> i64 {
    i64::from(set.node_id.iter().copied().max().unwrap_or(0)) + 2
}

/// Where and with how many graphs at once.
struct Bench {
    device: Device,
    batch: usize,
}

impl Bench {
    fn run(&self, case: &str, folder: &Path) {
        let set = || GraphSet::load(&folder.join("train.graphs")).expect("prepared graphs");
        seed::seed_torch(1, "bench", &[]);
        let vgae =
            |set: &GraphSet| Vgae::new(&VgaeArch::of_size(ModelSize::Large), num_ids(set), self.device);
        match case {
            "gat-large-train" => self.train_gat(ModelSize::Large, &set()),
            "gat-small-train" => self.train_gat(ModelSize::Small, &set()),
            "vgae-large-train" => {
                let set = set();
                let (vgae, semantic) = (vgae(&set), VgaeSemantic::of_size(ModelSize::Large));
                self.train(&VgaeTrainee::new(&vgae, &semantic, None), &set);
            }
            "gat-large-infer" => {
                let set = set();
                let gat = Gat::new(&GatArch::of_size(ModelSize::Large), num_ids(&set), self.device);
                self.infer(&set, |evaluator, pool| {
                    let _ = score::gat_logits(&gat, evaluator, &set, pool).expect("logits");
                });
            }
            "vgae-large-infer" => {
                let set = set();
                let vgae = vgae(&set);
                self.infer(&set, |evaluator, pool| {
                    score::errors(&vgae, evaluator, &set, pool).expect("scores");
                });
            }
            "dqn-act" => self.fuse(20_000, 1),
            "dqn-learn" => self.fuse(128, 16),
            other => panic!("unknown case {other}"),
        }
    }

    fn train_gat(&self, size: ModelSize, set: &GraphSet) {
        let gat = Gat::new(&GatArch::of_size(size), num_ids(set), self.device);
        self.train(&GatTrainee::new(&gat, &GatSemantic::of_size(size), &set.label, None), set);
    }

    /// Whole steps of training, collating included.
    fn train(&self, trainee: &dyn Trainee, set: &GraphSet) {
        let trainable = trainee.variables().into_iter().filter(|(_, tensor)| tensor.requires_grad());
        let mut adam = Adam::new(trainable, AdamConfig::new(1e-3, WeightDecay::L2(1e-4))).expect("optimiser");
        let size = self.batch as u32;
        let mut stepper = Stepper::new(size, size, 1.0, trainee.variables(), Memory::unwatched());
        let mut loader = Loader::new(self.device);
        let batches = batches(set, self.batch);
        let mut next = (0..batches.len()).cycle();
        self.rounds(|| {
            let part = &batches[next.next().expect("endless")];
            let task = Task { set, chosen: part, reseed: &|| {} };
            let loss = stepper.step(trainee, &mut adam, &mut loader, task, &mut Silent);
            let _ = loss.expect("step");
            part.len() as u64
        });
    }

    fn infer(&self, set: &GraphSet, visit: impl Fn(&mut Evaluator<'_>, &[u32])) {
        let batches = batches(set, self.batch);
        let mut next = (0..batches.len()).cycle();
        let (mut loader, mut silent) = (Loader::new(self.device), Silent);
        self.rounds(|| {
            let part = &batches[next.next().expect("endless")];
            visit(&mut Evaluator::of_passes(&mut loader, &mut silent, self.batch, "bench", 1), part);
            part.len() as u64
        });
    }
}

/// Every graph once, spread evenly: neighbouring windows are of one vehicle and so of one size.
fn batches(set: &GraphSet, batch: usize) -> Vec<Vec<u32>> {
    let n = set.len();
    let count = (n / batch).max(1);
    (0..count).map(|b| (b..n).step_by(count).take(batch).map(|g| g as u32).collect()).collect()
}

impl Bench {
    /// Episodes of the large agent; a round counts choices with `batch` 0, else gradient steps.
    fn fuse(&self, samples: u32, gradient_steps: u32) {
        let rows = Tensor::randn([STATES, ROW_WIDTH], (Kind::Float, Device::Cpu)).abs();
        let truth = (0..STATES).map(|i| Some(u8::from(i % 7 == 0))).collect();
        let raw = RawStates::new(&rows, truth).expect("states");
        let states = Scaling::fit(&raw).expect("scaling").apply(&raw, self.device);
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
        self.rounds(|| {
            learner.run_episode().expect("episode");
            u64::from(if self.batch == 0 { samples } else { gradient_steps })
        });
    }

    /// Three units of work to warm up, then rounds as stdin asks for them.
    fn rounds(&self, mut work: impl FnMut() -> u64) {
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
            self.wait();
            let (wall_s, cpu_s) = (began.elapsed().as_secs_f64(), (cpu_time() - cpu).as_secs_f64());
            let answer = serde_json::json!({
                "units": units, "wall_s": wall_s, "cpu_s": cpu_s, "peak_mib": self.peak_mib(),
            });
            println!("{answer}");
        }
    }

    /// Until the device has done what it was given.
    fn wait(&self) {
        if let Device::Cuda(index) = self.device {
            tch::Cuda::synchronize(index as i64);
        }
    }

    /// On the device, else of the process.
    fn peak_mib(&self) -> i64 {
        match self.device {
            Device::Cuda(_) => Memory::of(self.device, Mib(0)).peak().map_or(0, |bytes| (bytes >> 20) as i64),
            _ => usage().ru_maxrss / 1024,
        }
    }
}

/// User and system time of this process.
fn cpu_time() -> Duration {
    let usage = usage();
    let of = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
    of(usage.ru_utime) + of(usage.ru_stime)
}

fn usage() -> libc::rusage {
    // SAFETY: getrusage fills the struct it is given; zeroed is a valid value of plain integers.
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    }
}
