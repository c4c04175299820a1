//! Runs the three phases of one dataset through `trainer run`, without coordinator or agent:
//! `cargo run --release -p trainer --example drive -- <folder of the dataset> <work folder> [phase...]`.
//! Each phase takes its parents from the work folder, so a single one can be repeated. Further arguments like
//! `teacher.gat.imbalance='"hard_negatives"'` set values of the semantic configuration, as JSON.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use common::config::semantic::{
    DataSemantic, FusionSemantic, PhaseSemantic, StudentSemantic, TeacherSemantic,
};
use common::ids::Phase;
use common::trainer_protocol::FromTrainer;

#[path = "../tests/support/mod.rs"]
mod support;

fn main() {
    let mut args = std::env::args().skip(1);
    let (Some(captures), Some(work)) = (args.next(), args.next()) else {
        eprintln!("usage: drive <folder of the dataset> <work folder> [teacher] [student] [fusion]");
        std::process::exit(2);
    };
    let (settings, names): (Vec<String>, Vec<String>) = args.partition(|arg| arg.contains('='));
    let wanted: Vec<Phase> =
        names.iter().map(|name| name.parse().expect("teacher, student or fusion")).collect();
    let captures = std::fs::canonicalize(captures).expect("the folder of captures exists");
    for phase in Phase::ALL.into_iter().filter(|phase| wanted.is_empty() || wanted.contains(phase)) {
        drive(phase, &captures, Path::new(&work), &settings);
    }
}

fn drive(phase: Phase, captures: &Path, work: &Path, settings: &[String]) {
    let data = DataSemantic::default();
    let semantic = match phase {
        Phase::Teacher => PhaseSemantic::Teacher { data, teacher: TeacherSemantic::default() },
        Phase::Student => PhaseSemantic::Student { data, student: StudentSemantic::default() },
        Phase::Fusion => PhaseSemantic::Fusion { data, fusion: FusionSemantic::default() },
    };
    let semantic = with_settings(&semantic, settings);
    let parents: BTreeMap<Phase, PathBuf> =
        Phase::ALL.into_iter().map(|parent| (parent, work.join(parent.as_str()).join("out"))).collect();
    let order = support::Order {
        phase,
        semantic: &semantic,
        captures_dir: captures,
        scratch_dir: work.join(phase.as_str()),
        cache_dir: work.join("cache"),
        parents,
        resume_from: None,
        threads: std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
    };
    // Beside the examples folder.
    let own = std::env::current_exe().expect("the kernel knows this program");
    let binary = own.parent().and_then(Path::parent).expect("target/<profile>/examples").join("trainer");
    let began = Instant::now();
    let ended = support::run(&binary, order.start(), |frame, _| {
        let at = began.elapsed().as_secs_f64();
        match frame {
            FromTrainer::Epoch(e) if e.fraction == 1.0 => println!(
                "{at:7.1}s {} {}/{} loss {:.4?} {:.0}/s {:?}",
                e.model, e.epoch, e.epochs, e.loss, e.graphs_per_s, e.metrics
            ),
            FromTrainer::Epoch(_) | FromTrainer::Memory { .. } => {}
            FromTrainer::Done(_) => {}
            other => println!("{at:7.1}s {other:?}"),
        }
    });
    println!("{phase}: exit code {:?} after {:.1} s", ended.code, began.elapsed().as_secs_f64());
    let done = ended.done();
    println!("peak {:?}, {:?}", done.peak_memory_mib, done.tuning_used);
    for (name, value) in &done.metrics {
        if [".f1", ".auc", ".fpr", ".alarm_rate"].iter().any(|end| name.ends_with(end)) {
            println!("{name:70} {value:.4}");
        }
    }
}

/// Settings whose keys this phase does not have are those of another.
fn with_settings(semantic: &PhaseSemantic, settings: &[String]) -> PhaseSemantic {
    let mut tree = serde_json::to_value(semantic).expect("settings are JSON");
    for setting in settings {
        let (key, value) = setting.split_once('=').expect("KEY=VALUE");
        let pointer = format!("/{}", key.replace('.', "/"));
        // The phase's name stands around its settings.
        if let Some(at) = tree.as_object_mut().and_then(|o| o.values_mut().next()?.pointer_mut(&pointer)) {
            *at = serde_json::from_str(value).expect("the value is JSON");
            println!("{key} = {value}");
        }
    }
    serde_json::from_value(tree).expect("known settings of the right type")
}
