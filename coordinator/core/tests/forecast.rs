//! What earlier runs tell, and what is foretold from it.

mod support;

use common::config::PlacementSpec;
use common::ids::Phase;
use common::messages::RunningReport;
use common::plan::Plan;
use common::trainer_protocol::Stage;
use common::units::Mib;
use coordinator_core::placement::{Fleet, Room};
use coordinator_core::planner::history::{History, Sample, Size};
use coordinator_core::planner::plan;
use coordinator_core::planner::predict::{Change, Forecast, Question, forecast, utilization, what_if};
use serde_json::json;
use support::*;

const MINUTE: u64 = 60_000;

fn size(layers: u32) -> Size {
    Size::of(&json!({"lr": 0.1, "gat": {"arch": {"layers": layers}}}))
}

fn sample(name: &str, layers: u32, model: &str, minutes: u64, peak: u64) -> Sample {
    let name = job(name);
    Sample {
        dataset: name.dataset,
        phase: name.phase,
        size: size(layers),
        device_model: model.into(),
        duration_ms: minutes * MINUTE,
        peak_mib: (peak > 0).then_some(Mib(peak)),
        micro_batch_ceiling: None,
    }
}

#[test]
fn the_size_is_the_architecture_and_nothing_else() {
    assert_eq!(size(2), Size::of(&json!({"lr": 0.7, "epochs": 3, "gat": {"arch": {"layers": 2}}})));
    assert_ne!(size(2), size(3));
}

#[test]
fn the_need_is_the_largest_peak_of_the_same_phase_size_and_model() {
    let history = History::of_samples(vec![
        sample("a/teacher", 2, "L4", 10, 3000),
        sample("b/teacher", 2, "L4", 10, 4000),
        sample("a/student", 2, "L4", 10, 9000),
        sample("a/teacher", 3, "L4", 10, 9000),
        sample("a/teacher", 2, "T4", 10, 2000),
        sample("c/teacher", 2, "A100", 10, 0),
    ]);
    let need = |model: &str| history.need(Phase::Teacher, &size(2), model, &PlacementSpec::default());
    assert_eq!(need("L4"), Some((Mib(4600), "peak 4000 MiB of 2 runs measured + 600 MiB".into())));
    assert_eq!(need("T4"), Some((Mib(2300), "peak 2000 MiB of 1 run measured + 300 MiB".into())));
    assert_eq!(need("A100"), None, "nothing was measured there");
    assert_eq!(history.models(Phase::Teacher, &size(2)), ["L4", "T4"]);
}

#[test]
fn a_length_comes_from_the_nearest_runs_there_are() {
    let history = History::of_samples(vec![
        sample("a/teacher", 2, "L4", 10, 0),
        sample("a/teacher", 2, "L4", 12, 0),
        sample("a/teacher", 2, "L4", 11, 0),
        sample("a/teacher", 2, "T4", 30, 0),
        sample("b/teacher", 2, "T4", 50, 0),
    ]);
    let minutes = |name: &str, model| history.length(&job(name), &size(2), model).map(|l| l.ms / MINUTE);
    assert_eq!(minutes("a/teacher", Some("L4")), Some(11));
    assert_eq!(minutes("a/teacher", Some("T4")), Some(30));
    assert_eq!(minutes("a/teacher", None), Some(12), "of all four");
    assert_eq!(minutes("c/teacher", Some("T4")), Some(50));
    assert_eq!(minutes("c/teacher", Some("A100")), Some(12), "of all five");
    assert_eq!(minutes("c/student", None), None);
    let basis = history.length(&job("a/teacher"), &size(2), Some("L4")).unwrap().basis;
    assert_eq!(basis, "median of 3 runs of this dataset on this device model");
    let spread: Vec<u64> = history.spread().iter().map(|r| (r * 1000.0).round() as u64).collect();
    assert_eq!(spread, [909, 1000, 1091], "only what was run more than once tells how lengths vary");
}

fn rooms(cards: &[(&str, &str)]) -> Fleet {
    let room = |(node, model): &(&str, &str)| {
        let report = common::messages::DeviceReport { model: (*model).into(), ..gpu("GPU-0", 9_000) };
        Room::of_report(&node.parse().unwrap(), &report)
    };
    Fleet::of_rooms(cards.iter().map(room).collect())
}

fn told(plan: &Plan, fleet: &Fleet, history: &History, seed: Option<u64>) -> Forecast {
    forecast(&Question { plan, fleet, depends_on: &depends_on(), history, seed })
}

fn two_sets() -> Plan {
    plan(&request(&["a", "b"]), &Default::default()).unwrap()
}

/// Of the size that the requests of these tests have.
fn history() -> History {
    let of = |dataset: &str, minutes: u64| {
        let size = Size::of(&json!({}));
        Sample { size, ..sample(&format!("{dataset}/teacher"), 1, "L4", minutes, 0) }
    };
    History::of_samples(vec![of("a", 40), of("a", 50), of("a", 60), of("b", 50)])
}

#[test]
fn without_runs_to_compare_no_spread_is_claimed() {
    let told = told(&two_sets(), &rooms(&[("n1", "L4")]), &History::default(), Some(3));
    assert_eq!((told.makespan_ms, told.makespan), (280 * MINUTE, None));
    assert!(told.jobs.values().all(|e| e.end.is_none()));
}

#[test]
fn quantiles_come_from_measured_lengths_and_are_the_same_each_time() {
    let (plan, fleet, history) = (two_sets(), rooms(&[("n1", "L4"), ("n2", "T4")]), history());
    let first = told(&plan, &fleet, &history, None);
    assert_eq!(first, told(&plan, &fleet, &history, None));
    let spread = first.makespan.unwrap();
    assert!(spread.p50_ms < spread.p90_ms && spread.samples == 3, "{spread:?}");
    // A ratio of 0.8, 1 or 1.2 on each length: nothing can end outside of that.
    let (least, most) = (first.makespan_ms * 8 / 10, first.makespan_ms * 12 / 10);
    assert!(least <= spread.p50_ms && spread.p90_ms <= most, "{spread:?} of {}", first.makespan_ms);
    assert_eq!(first.jobs["a/teacher"].end_ms, 50 * MINUTE, "50 minutes on an L4, 45 expected elsewhere");
    let futures: Vec<u64> =
        (0..8).map(|seed| told(&plan, &fleet, &history, Some(seed)).makespan_ms).collect();
    assert!(futures.iter().any(|ms| *ms != futures[0]), "{futures:?}");
}

#[test]
fn what_runs_already_keeps_its_device_until_its_end() {
    let plan = two_sets();
    let mut node = beat("n1", 1, vec![gpu("GPU-0", 9_000)]);
    node.running.push(RunningReport {
        job: id(&plan, "x/teacher"),
        key: common::job_key::JobKey(common::digest::Digest::of(b"x")),
        attempt: common::ids::Attempt::FIRST,
        place: World::place("n1", "GPU-0", 8192),
        pid: None,
        stage: Stage::Training,
        progress: None,
        fraction: None,
        loss: None,
        graphs_per_s: None,
        eta_ms: Some(20 * MINUTE),
        used_mib: None,
        resumed_from_epoch: None,
        waits: None,
    });
    let fleet = Fleet::of_beats(&std::collections::BTreeMap::from([(node.node.clone(), node)]));
    let told = told(&plan, &fleet, &History::default(), None);
    assert_eq!(told.makespan_ms, 300 * MINUTE);
    assert_eq!(told.lower_bound_ms, Some(280 * MINUTE), "of the fleet, were it idle");
}

#[test]
fn one_more_card_and_a_lost_node_are_told() {
    let (plan, fleet) = (two_sets(), rooms(&[("n1", "L4"), ("n2", "T4")]));
    let (depends_on, history) = (depends_on(), History::default());
    let question =
        Question { plan: &plan, fleet: &fleet, depends_on: &depends_on, history: &history, seed: None };
    let told: Vec<(String, u64)> = what_if(&question)
        .into_iter()
        .map(|what| {
            let name = match what.change {
                Change::OneMore { model, .. } => format!("+{model}"),
                Change::LostNode { node } => format!("-{node}"),
            };
            (name, what.makespan_ms / MINUTE)
        })
        .collect();
    let expected = [("+L4", 140), ("+T4", 140), ("-n1", 280), ("-n2", 280)];
    assert_eq!(told, expected.map(|(name, minutes)| (name.to_owned(), minutes)));
    let whole = forecast(&question);
    // gpu() allows two jobs side by side; by memory there is room for one.
    assert_eq!(utilization(&question, &whole), Some(0.5));
}
