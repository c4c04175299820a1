//! What is retrained, and why.

mod support;

use common::digest::Digest;
use common::ids::Phase;
use common::plan::{BlockedReason, Decision, Plan, RunReason};
use common::units::Mib;
use coordinator_core::placement::{Fleet, Room};
use coordinator_core::planner::history::History;
use coordinator_core::planner::predict::{Forecast, Question, forecast};
use coordinator_core::planner::{PlanError, plan};
use serde_json::json;
use support::*;

fn reasons(plan: &Plan, name: &str) -> Vec<RunReason> {
    match &plan.job(&job(name)).unwrap().decision {
        Decision::Run { reasons } => reasons.clone(),
        other => panic!("{name} does not run: {other:?}"),
    }
}

fn runs(plan: &Plan) -> Vec<String> {
    let mut names: Vec<String> = plan.to_run().map(|j| j.spec.name.to_string()).collect();
    names.sort();
    names
}

#[test]
fn what_was_never_trained_runs() {
    let plan = plan(&request(&["hcrl_sa"]), &Default::default()).unwrap();
    assert_eq!(reasons(&plan, "hcrl_sa/teacher"), [RunReason::NeverTrained]);
    assert_eq!(plan.to_run().count(), 3);
}

#[test]
fn with_everything_committed_nothing_runs_and_the_plan_is_the_same_each_time() {
    let request = request(&["hcrl_sa", "set_01"]);
    let base = committed_base(&request);
    let first = plan(&request, &base).unwrap();
    assert_eq!(runs(&first), Vec::<String>::new());
    assert_eq!(first, plan(&request, &base).unwrap());
}

#[test]
fn a_changed_setting_is_named_and_makes_only_its_phase_and_what_follows_stale() {
    let mut request = request(&["hcrl_sa", "set_01"]);
    let base = committed_base(&request);
    let student = request.datasets[1].phases.get_mut(&Phase::Student).unwrap();
    student.semantic = json!({ "lr": 0.002, "phase": "student" });
    let plan = plan(&request, &base).unwrap();
    assert_eq!(runs(&plan), ["set_01/fusion", "set_01/student"]);
    let change =
        RunReason::ConfigChanged { key: "lr".into(), old: Some("0.001".into()), new: Some("0.002".into()) };
    assert_eq!(reasons(&plan, "set_01/student"), std::slice::from_ref(&change));
    assert_eq!(change.to_string(), "config lr changed 0.001 -> 0.002");
    assert_eq!(reasons(&plan, "set_01/fusion"), [RunReason::ParentChanged { parent: Phase::Student }]);
}

#[test]
fn a_changed_setting_has_the_name_that_people_write() {
    let semantic = |flags: Vec<&str>| {
        let sources = common::config::Sources { flags, ..Default::default() };
        let config = common::config::Config::resolve(&sources).unwrap();
        serde_json::to_value(config.semantic(&dataset("hcrl_sa"), Phase::Student)).unwrap()
    };
    let mut request = request(&["hcrl_sa"]);
    request.datasets[0].phases.get_mut(&Phase::Student).unwrap().semantic = semantic(vec![]);
    let base = committed_base(&request);
    let student = request.datasets[0].phases.get_mut(&Phase::Student).unwrap();
    student.semantic = semantic(vec!["student.gat.lr=0.002"]);
    let plan = plan(&request, &base).unwrap();
    let told = reasons(&plan, "hcrl_sa/student")[0].to_string();
    assert_eq!(told, "config student.gat.lr changed 0.001 -> 0.002");
}

#[test]
fn changed_captures_make_all_phases_of_that_dataset_stale() {
    let mut request = request(&["hcrl_sa", "set_01"]);
    let base = committed_base(&request);
    request.datasets[0].digest = Ok(Digest::of(b"one more capture"));
    let plan = plan(&request, &base).unwrap();
    assert_eq!(runs(&plan), ["hcrl_sa/fusion", "hcrl_sa/student", "hcrl_sa/teacher"]);
    assert!(matches!(reasons(&plan, "hcrl_sa/teacher")[..], [RunReason::DataChanged { .. }]));
}

#[test]
fn a_lost_object_is_trained_again_under_another_key() {
    let mut request = request(&["hcrl_sa"]);
    let base = committed_base(&request);
    request.missing.insert(job("hcrl_sa/student"), "runs/x/a1/gat.safetensors".into());
    let plan = plan(&request, &base).unwrap();
    assert_eq!(runs(&plan), ["hcrl_sa/fusion", "hcrl_sa/student"]);
    let planned = plan.job(&job("hcrl_sa/student")).unwrap();
    let old = &base.registry[&job("hcrl_sa/student")];
    assert_ne!(planned.spec.inputs.key(), Some(old.committed.key), "a committed key never runs again");
}

#[test]
fn the_forced_set_is_exactly_the_selector_and_dependents_follow_by_their_parent() {
    let mut request = request(&["hcrl_sa", "set_01"]);
    let base = committed_base(&request);
    request.options.force = vec!["hcrl_sa/student".into()];
    let plain = plan(&request, &base).unwrap();
    assert_eq!(runs(&plain), ["hcrl_sa/fusion", "hcrl_sa/student"]);
    assert!(matches!(reasons(&plain, "hcrl_sa/student")[..], [RunReason::Forced { .. }]));
    assert!(matches!(reasons(&plain, "hcrl_sa/fusion")[..], [RunReason::ParentChanged { .. }]));
    assert_eq!(plain.job(&job("hcrl_sa/student")).unwrap().spec.inputs.force_generation, 1);

    request.options.downstream = true;
    let downstream = plan(&request, &base).unwrap();
    assert!(matches!(reasons(&downstream, "hcrl_sa/fusion")[0], RunReason::Forced { .. }));
}

#[test]
fn forcing_what_no_job_is_called_is_refused_with_the_jobs_there_are() {
    let mut request = request(&["hcrl_sa"]);
    request.options.force = vec!["set_09".into()];
    let error = plan(&request, &Default::default()).unwrap_err();
    assert!(matches!(error, PlanError::SelectsNothing { .. }));
    assert!(error.to_string().contains("hcrl_sa/teacher"), "{error}");
}

#[test]
fn a_forced_result_stays_in_use_for_the_next_plain_plan() {
    let mut request = request(&["hcrl_sa"]);
    let base = committed_base(&request);
    request.options.force = vec!["all".into()];
    let forced_base = {
        let mut next = committed_base_from(&request, base);
        next.running.clear();
        next
    };
    request.options.force.clear();
    assert_eq!(runs(&plan(&request, &forced_base).unwrap()), Vec::<String>::new());
}

/// Commits what each plan runs, once per phase, with the selectors only in the first round.
fn committed_base_from(
    request: &coordinator_core::planner::Request,
    mut base: coordinator_core::planner::Base,
) -> coordinator_core::planner::Base {
    let mut request = request.clone();
    let planned = plan(&request, &base).unwrap();
    request.options.force.clear();
    for phase in Phase::ALL {
        for planned in planned.to_run().filter(|j| j.spec.name.phase == phase) {
            let mut inputs = planned.spec.inputs.clone();
            for parent in inputs.parents.clone().into_keys() {
                let name = common::ids::JobName::new(planned.spec.name.dataset.clone(), parent);
                inputs = inputs.with_parent(parent, base.registry[&name].committed.manifest);
            }
            let name = planned.spec.name.clone();
            let entry = base.registry.get_mut(&name).unwrap();
            entry.committed.key = inputs.key().unwrap();
            entry.committed.manifest = Digest::of(format!("forced {name}").as_bytes());
            entry.inputs = inputs;
            base.committed.insert(entry.committed.key, entry.committed.clone());
        }
    }
    base
}

#[test]
fn only_leaves_out_the_other_phases_but_uses_their_results() {
    let mut request = request(&["hcrl_sa"]);
    request.options.only = vec![Phase::Student];
    let never = plan(&request, &Default::default()).unwrap();
    assert_eq!(runs(&never), Vec::<String>::new());
    let student = &never.job(&job("hcrl_sa/student")).unwrap().decision;
    let wanted = BlockedReason::ParentNotTrained { parent: Phase::Teacher };
    assert_eq!(*student, Decision::Blocked { reason: wanted });

    request.options.only.clear();
    let base = committed_base(&request);
    request.options.only = vec![Phase::Student];
    for phase in Phase::ALL {
        request.datasets[0].phases.get_mut(&phase).unwrap().semantic = json!({ "lr": 9 });
    }
    let plan = plan(&request, &base).unwrap();
    assert_eq!(runs(&plan), ["hcrl_sa/student"]);
    let teacher = &plan.job(&job("hcrl_sa/teacher")).unwrap().decision;
    assert!(matches!(teacher, Decision::Excluded { committed: Some(_), reasons } if !reasons.is_empty()));
}

#[test]
fn settings_put_back_find_the_old_result_and_put_it_back_in_use() {
    let mut request = request(&["hcrl_sa"]);
    let before = committed_base(&request);
    let original = request.clone();
    request.datasets[0].phases.get_mut(&Phase::Fusion).unwrap().semantic = json!({ "lr": 5 });
    let mut after = committed_base(&request);
    after.committed.extend(before.committed.clone());
    let plan = plan(&original, &after).unwrap();
    let old = before.registry[&job("hcrl_sa/fusion")].committed.clone();
    let why = reasons(&plan, "hcrl_sa/fusion");
    assert!(why.contains(&RunReason::CommittedBefore { manifest: old.manifest }), "{why:?}");
    assert_eq!(plan.job(&job("hcrl_sa/fusion")).unwrap().spec.inputs.key(), Some(old.key));
}

#[test]
fn a_plan_is_never_older_than_what_it_replaces() {
    let mut request = request(&["hcrl_sa"]);
    let mut base = committed_base(&request);
    let teacher = base.registry.get_mut(&job("hcrl_sa/teacher")).unwrap();
    teacher.plan_created = common::units::UnixMs(9_000_000);
    request.options.force = vec!["teacher".into()];
    assert!(plan(&request, &base).unwrap().created.0 > 9_000_000);
}

#[test]
fn unreadable_captures_and_a_running_plan_block_with_the_reason() {
    let mut request = request(&["hcrl_sa", "set_01"]);
    request.datasets[0].digest = Err("folder /data/hcrl_sa not found".into());
    let mut base = coordinator_core::planner::Base::default();
    base.running.insert(dataset("set_01"), "p123".parse().unwrap());
    let plan = plan(&request, &base).unwrap();
    let decision = |name: &str| plan.job(&job(name)).unwrap().decision.clone();
    assert!(matches!(
        decision("hcrl_sa/teacher"),
        Decision::Blocked { reason: BlockedReason::NoData { .. } }
    ));
    let running = BlockedReason::RunningIn { plan: "p123".parse().unwrap() };
    assert_eq!(decision("set_01/teacher"), Decision::Blocked { reason: running });
}

#[test]
fn priority_comes_first_then_the_longest_chain() {
    let mut request = request(&["hcrl_sa", "set_01", "set_02"]);
    request.datasets[2].priority = 5;
    request.datasets[1].phases.get_mut(&Phase::Fusion).unwrap().expected_ms = 500 * 60_000;
    let plan = plan(&request, &Default::default()).unwrap();
    let teachers: Vec<String> = plan
        .jobs
        .iter()
        .filter(|j| j.spec.name.phase == Phase::Teacher)
        .map(|j| j.spec.name.dataset.to_string())
        .collect();
    assert_eq!(teachers, ["set_02", "set_01", "hcrl_sa"]);
}

fn fleet(cards: &[(&str, u64)]) -> Fleet {
    let room = |(name, budget): &(&str, u64)| Room::of_report(&name.parse().unwrap(), &gpu("GPU-0", *budget));
    Fleet::of_rooms(cards.iter().map(room).collect())
}

fn forecast_on(plan: &Plan, fleet: &Fleet) -> Forecast {
    let history = History::default();
    forecast(&Question { plan, fleet, depends_on: &depends_on(), history: &history, seed: None })
}

#[test]
fn the_seeds_eighteen_phases_take_what_arithmetic_says() {
    let sets = ["hcrl_ch", "hcrl_sa", "set_01", "set_02", "set_03", "set_04"];
    let plan = plan(&request(&sets), &Default::default()).unwrap();
    let names = ["n1", "n2", "n3", "n4", "n5", "n6", "n7", "n8"];
    for (gpus, minutes) in [(1, 840), (2, 420), (4, 210), (6, 140), (7, 140), (8, 140)] {
        let cards: Vec<(&str, u64)> = names[..gpus].iter().map(|n| (*n, 9_000)).collect();
        let forecast = forecast_on(&plan, &fleet(&cards));
        assert_eq!(forecast.makespan_ms / 60_000, minutes, "{gpus} GPUs");
        assert_eq!(forecast.lower_bound_ms, Some(minutes * 60_000), "{gpus} GPUs");
        assert_eq!(forecast.critical_path_ms, 140 * 60_000);
        assert_eq!(forecast.critical_path.len(), 3);
    }
}

#[test]
fn what_fits_nowhere_is_told_with_the_nearest_fit() {
    let mut request = request(&["hcrl_sa"]);
    let teacher = request.datasets[0].phases.get_mut(&Phase::Teacher).unwrap();
    teacher.need.gpu_mib = Mib(90_000);
    teacher.tuning.device = common::config::DeviceChoice::Cuda;
    let plan = plan(&request, &Default::default()).unwrap();
    let forecast = forecast_on(&plan, &fleet(&[("small", 9_000), ("large", 22_000)]));
    assert_eq!(forecast.impossible.len(), 1);
    assert_eq!(forecast.impossible[0].nearest, Some(("large GPU-0 (Test GPU)".into(), Mib(22_000))));
    assert_eq!((forecast.jobs.len(), forecast.lower_bound_ms), (0, None), "nothing behind it can run");
}
