//! The way of jobs through offers, leases, verification and commit, on a bus that never fails.

mod support;

use common::chain::JobState;
use common::ids::{Attempt, Phase, Revision};
use common::plan::{Decision, Plan};
use common::slot::{Cause, Failure, SlotState};
use common::units::{Mib, Millis};
use coordinator_core::explain::Reason;
use coordinator_core::placement::Blocker;
use coordinator_core::planner::plan;
use coordinator_core::view::{JobView, view};
use coordinator_core::{Event, Refused, apply, explain, transition};
use support::*;

fn world_with(datasets: &[&str], budgets: &[u64]) -> (World, Plan) {
    let gpus = budgets.iter().enumerate().map(|(i, mib)| gpu(&format!("GPU-{i}"), *mib)).collect();
    let mut world = World::new(vec![beat("n1", 1, gpus)]);
    let plan = plan(&request(datasets), &Default::default()).unwrap();
    world.apply_plan(&plan);
    (world, plan)
}

#[test]
fn a_chain_runs_from_plan_to_last_commit() {
    let (mut world, plan) = world_with(&["hcrl_sa"], &[22_000]);
    for name in ["hcrl_sa/teacher", "hcrl_sa/student", "hcrl_sa/fusion"] {
        let key = world.key(&plan, name);
        assert!(matches!(world.slot(key).state, SlotState::Offered { .. }), "{name}");
        assert_eq!(world.offers.last().unwrap().key, key);
        world.hold(key, 0);
        world.finish(key);
        assert!(matches!(world.job_state(&plan, name), JobState::Committed { .. }), "{name}");
    }
    assert!(world.record(&plan, "hcrl_sa").is_finished());
    assert_eq!(world.state.registry.len(), 3, "all three are in use");
    let again = coordinator_core::planner::Base {
        registry: world.state.registry.iter().map(|(n, r)| (n.clone(), r.entry.clone())).collect(),
        committed: world.state.committed.clone(),
        running: Default::default(),
    };
    let replanned = coordinator_core::planner::plan(&request(&["hcrl_sa"]), &again).unwrap();
    assert!(replanned.jobs.iter().all(|j| matches!(j.decision, Decision::UpToDate { .. })));
}

#[test]
fn the_offer_names_the_parents_results() {
    let (mut world, plan) = world_with(&["hcrl_sa"], &[22_000]);
    let teacher = world.key(&plan, "hcrl_sa/teacher");
    world.hold(teacher, 0);
    world.finish(teacher);
    let offer = world.offers.last().unwrap();
    assert_eq!(offer.job.name, job("hcrl_sa/student"));
    assert_eq!(offer.parents[&Phase::Teacher].key, teacher);
}

#[test]
fn a_lease_that_runs_out_fences_the_holder_and_starts_the_next_attempt() {
    let (mut world, plan) = world_with(&["hcrl_sa"], &[22_000]);
    let key = world.key(&plan, "hcrl_sa/teacher");
    world.hold(key, 0);
    world.pass(Millis::from_secs(29));
    assert_eq!(world.slot(key).attempt, Attempt(1));
    world.hold(key, 1);
    world.pass(Millis::from_secs(29));
    assert_eq!(world.slot(key).attempt, Attempt(1), "a renewal counts from when it was seen");
    world.pass(Millis::from_secs(2));
    assert!(!matches!(world.slot(key).state, SlotState::Held { .. }), "fenced");
    world.pass(Millis::from_secs(5));
    assert_eq!(world.slot(key).attempt, Attempt(2));
    assert_eq!(world.record(&plan, "hcrl_sa").jobs[&Phase::Teacher].past.len(), 1);
}

#[test]
fn a_taken_slot_is_told_once_and_a_renewal_is_no_news() {
    let (mut world, plan) = world_with(&["hcrl_sa"], &[22_000]);
    let key = world.key(&plan, "hcrl_sa/teacher");
    world.hold(key, 0);
    world.hold(key, 1);
    let told: Vec<_> = world.news.iter().map(|n| (n.kind.as_str(), n.attempt, n.job.clone())).collect();
    assert_eq!(told, [("leased", Some(Attempt(1)), id(&plan, "hcrl_sa/teacher"))]);
    assert_eq!(world.news[0].traceparent, plan.traceparent);
}

#[test]
fn a_job_without_a_place_waits_for_ever_unless_a_limit_is_set() {
    let (mut world, plan) = world_with(&["a"], &[]);
    world.pass(Millis::from_secs(30 * 24 * 3600));
    assert!(matches!(world.job_state(&plan, "a/teacher"), JobState::Open { .. }));
    world.state.options.queue_timeout = Millis::from_secs(31 * 24 * 3600);
    world.pass(Millis::from_secs(24 * 3600));
    let JobState::Failed { message, .. } = world.job_state(&plan, "a/teacher") else {
        panic!("it still waits")
    };
    assert!(message.starts_with("no place was found for"), "{message}");
    assert!(matches!(world.job_state(&plan, "a/student"), JobState::Skipped { .. }));
}

#[test]
fn a_job_that_runs_is_not_queued_however_long_it_takes() {
    let (mut world, plan) = world_with(&["a"], &[22_000]);
    world.state.options.queue_timeout = Millis::from_secs(60);
    let key = world.key(&plan, "a/teacher");
    for beat in 0..100 {
        world.hold(key, beat);
        world.pass(Millis::from_secs(5));
    }
    assert!(matches!(world.job_state(&plan, "a/teacher"), JobState::Open { .. }));
}

#[test]
fn while_the_bus_is_away_no_lease_runs_out() {
    let (mut world, plan) = world_with(&["hcrl_sa"], &[22_000]);
    let key = world.key(&plan, "hcrl_sa/teacher");
    world.hold(key, 0);
    world.tell(Event::BusLost);
    world.pass(Millis::from_secs(600));
    world.tell(Event::BusBack);
    world.settle();
    assert_eq!(world.slot(key).attempt, Attempt(1));
    world.pass(Millis::from_secs(29));
    assert_eq!(world.slot(key).attempt, Attempt(1), "the clock starts anew");
}

#[test]
fn silence_while_this_process_stood_still_ends_no_lease() {
    let (mut world, plan) = world_with(&["hcrl_sa"], &[22_000]);
    let key = world.key(&plan, "hcrl_sa/teacher");
    world.hold(key, 0);
    world.now = world.now.plus(Millis::from_secs(40));
    world.tell(Event::StoodStill);
    world.settle();
    assert_eq!(world.slot(key).attempt, Attempt(1));
    world.pass(Millis::from_secs(31));
    assert!(!matches!(world.slot(key).state, SlotState::Held { .. }), "from here on silence counts");
}

#[test]
fn budgets_end_a_job_and_its_dependents_are_skipped() {
    let (mut world, plan) = world_with(&["hcrl_sa"], &[22_000]);
    let key = world.key(&plan, "hcrl_sa/teacher");
    for n in 1..=4 {
        world.pass(Millis::from_secs(200));
        assert_eq!(world.slot(key).attempt, Attempt(n));
        let failure = Failure::new(Cause::OutOfMemory, "CUDA out of memory");
        world.agent(key, |place| SlotState::Failed { place, failure });
    }
    assert!(matches!(
        world.job_state(&plan, "hcrl_sa/teacher"),
        JobState::Failed { cause: Cause::OutOfMemory, .. }
    ));
    assert_eq!(
        world.job_state(&plan, "hcrl_sa/fusion"),
        JobState::Skipped { because: job("hcrl_sa/student") }
    );
    assert!(world.record(&plan, "hcrl_sa").is_finished());
}

#[test]
fn a_user_error_is_not_tried_again() {
    let (mut world, plan) = world_with(&["hcrl_sa"], &[22_000]);
    let key = world.key(&plan, "hcrl_sa/teacher");
    let failure = Failure::new(Cause::UserError, "a.csv:7: no id");
    world.agent(key, |place| SlotState::Failed { place, failure });
    let JobState::Failed { message, .. } = world.job_state(&plan, "hcrl_sa/teacher") else { panic!() };
    assert_eq!(message, "a.csv:7: no id");
}

#[test]
fn a_result_that_is_not_whole_is_never_committed() {
    let (mut world, plan) = world_with(&["hcrl_sa"], &[22_000]);
    let key = world.key(&plan, "hcrl_sa/teacher");
    world.hold(key, 0);
    let manifest = common::digest::Digest::of(b"m");
    world.agent(key, |place| SlotState::Finished { place, manifest, duration_ms: 1 });
    let outcome = coordinator_core::state::Verified::Broken("gat.safetensors is missing".into());
    world.tell(Event::Verified { key, attempt: Attempt(1), outcome });
    world.settle();
    assert!(matches!(world.job_state(&plan, "hcrl_sa/teacher"), JobState::Open { attempt: Attempt(2), .. }));
}

#[test]
fn two_plans_with_the_same_job_run_it_once() {
    let (mut world, first) = world_with(&["hcrl_sa"], &[22_000]);
    let mut second = first.clone();
    second.id = "p2".parse().unwrap();
    second.created = common::units::UnixMs(2000);
    world.apply_plan(&second);
    let key = world.key(&first, "hcrl_sa/teacher");
    assert_eq!(world.slot(key).job.plan, first.id);
    let why = explain(&world.state, world.now, &id(&second, "hcrl_sa/teacher")).unwrap();
    assert_eq!(why.reasons, [Reason::SameJobRunsIn { plan: first.id.clone() }]);
    world.hold(key, 0);
    world.finish(key);
    assert!(matches!(world.job_state(&second, "hcrl_sa/teacher"), JobState::UpToDate { .. }));
}

#[test]
fn a_result_committed_before_is_put_back_in_use_without_training() {
    let (mut world, first) = world_with(&["hcrl_sa"], &[22_000]);
    let key = world.key(&first, "hcrl_sa/teacher");
    world.hold(key, 0);
    world.finish(key);
    let offers = world.offers.len();
    let name = job("hcrl_sa/teacher");
    let mut other = world.state.registry[&name].entry.clone();
    other.committed.key = common::job_key::JobKey(common::digest::Digest::of(b"another version"));
    let revision = world.revision();
    world.tell(Event::RegistrySeen { entry: Box::new(other), revision });
    let mut second = first.clone();
    second.id = "p2".parse().unwrap();
    second.created = common::units::UnixMs(2000);
    world.apply_plan(&second);
    assert!(matches!(world.job_state(&second, "hcrl_sa/teacher"), JobState::UpToDate { .. }));
    assert_eq!(world.state.registry[&name].entry.committed.key, key, "back in use");
    assert!(world.offers.len() == offers, "the teacher is not offered again");
}

#[test]
fn attempts_of_a_key_never_repeat_over_plans() {
    let (mut world, first) = world_with(&["hcrl_sa"], &[22_000]);
    let key = world.key(&first, "hcrl_sa/teacher");
    world.hold(key, 0);
    let (cancelled, notes) =
        transition::cancel(world.record(&first, "hcrl_sa"), &[Phase::Teacher], "by hand").unwrap();
    let told: Vec<&str> = notes.iter().map(|n| n.kind.as_str()).collect();
    assert_eq!(told, ["cancelled", "skipped", "skipped"]);
    let revision = world.revision();
    world.tell(Event::ChainSeen { record: Box::new(cancelled), revision });
    world.settle();
    assert!(matches!(world.slot(key).state, SlotState::Closed { .. }), "the holder is fenced");
    assert!(matches!(world.job_state(&first, "hcrl_sa/student"), JobState::Skipped { .. }));

    let mut second = first.clone();
    second.id = "p2".parse().unwrap();
    world.apply_plan(&second);
    assert_eq!(world.slot(key).attempt, Attempt(2));
    assert_eq!(world.slot(key).job.plan, second.id);
}

#[test]
fn offers_never_exceed_the_card_and_a_large_head_holds_up_nobody() {
    let mut request = request(&["hcrl_sa", "set_01", "set_02"]);
    request.datasets[0].priority = 9;
    request.datasets[0].phases.get_mut(&Phase::Teacher).unwrap().need.gpu_mib = Mib(21_000);
    let mut report = gpu("GPU-0", 22_000);
    report.foreign_mib = Some(Mib(4_000));
    let mut world = World::new(vec![beat("n1", 1, vec![report])]);
    let plan = plan(&request, &Default::default()).unwrap();
    world.apply_plan(&plan);
    let state = |name: &str| view(&world.state, &id(&plan, name)).unwrap();
    assert!(matches!(state("hcrl_sa/teacher"), JobView::Ready { .. }));
    assert!(matches!(state("set_01/teacher"), JobView::Offered { .. }));
    assert!(matches!(state("set_02/teacher"), JobView::Offered { .. }));
    let why = explain(&world.state, world.now, &id(&plan, "hcrl_sa/teacher")).unwrap();
    let [Reason::NoRoomNow { devices, .. }] = &why.reasons[..] else { panic!("{:?}", why.reasons) };
    assert!(matches!(devices[0].blocker, Blocker::Busy { jobs: 2, .. }));
}

#[test]
fn nothing_is_placed_where_foreign_use_is_unknown() {
    let mut report = gpu("GPU-0", 22_000);
    report.foreign_mib = None;
    let mut world = World::new(vec![beat("n1", 1, vec![report])]);
    let plan = plan(&request(&["hcrl_sa"]), &Default::default()).unwrap();
    world.apply_plan(&plan);
    assert!(world.state.slots.is_empty());
}

#[test]
fn a_job_that_no_card_can_hold_is_called_impossible() {
    let mut request = request(&["hcrl_sa"]);
    let teacher = request.datasets[0].phases.get_mut(&Phase::Teacher).unwrap();
    teacher.need.gpu_mib = Mib(40_000);
    teacher.tuning.device = common::config::DeviceChoice::Cuda;
    let mut world = World::new(vec![beat("n1", 1, vec![gpu("GPU-0", 22_000)])]);
    let plan = plan(&request, &Default::default()).unwrap();
    world.apply_plan(&plan);
    let why = explain(&world.state, world.now, &id(&plan, "hcrl_sa/teacher")).unwrap();
    let [Reason::Impossible { need_mib, nearest: Some((_, nearest)), .. }] = &why.reasons[..] else {
        panic!("{:?}", why.reasons)
    };
    assert_eq!((*need_mib, *nearest), (Mib(40_000), Mib(22_000)));
}

#[test]
fn a_node_taken_away_is_forgotten_and_nothing_waits_for_its_cards() {
    let mut cpu = gpu("cpu", 22_000);
    cpu.kind = common::messages::DeviceKind::Cpu;
    let mut world = World::new(vec![beat("gone", 1, vec![gpu("GPU-0", 22_000)])]);
    world.now = world.now.plus(Millis::from_secs(3600));
    world.tell(Event::Beat { beat: Box::new(beat("n2", 1, vec![cpu])) });
    let plan = plan(&request(&["hcrl_sa"]), &Default::default()).unwrap();
    world.apply_plan(&plan);
    let place = world.slot(world.key(&plan, "hcrl_sa/teacher")).state.place().cloned().unwrap();
    assert_eq!(place.node.as_str(), "n2");
}

#[test]
fn a_declined_job_is_asked_again_later_and_elsewhere_at_once() {
    let (mut world, plan) = world_with(&["hcrl_sa"], &[22_000]);
    let key = world.key(&plan, "hcrl_sa/teacher");
    world.agent(key, |place| SlotState::Declined { place, reason: "12,000 MiB used by pid 4242".into() });
    assert!(matches!(world.slot(key).state, SlotState::Declined { .. }), "not the same node at once");
    let beat = beat("n2", 1, vec![gpu("GPU-9", 22_000)]);
    world.tell(Event::Beat { beat: Box::new(beat) });
    world.settle();
    assert_eq!(world.slot(key).state.place().unwrap().node.as_str(), "n2");
    assert_eq!((world.slot(key).attempt, world.slot(key).offer), (Attempt(1), 2));
}

#[test]
fn an_offer_nobody_takes_is_made_again() {
    let (mut world, plan) = world_with(&["hcrl_sa"], &[22_000]);
    let key = world.key(&plan, "hcrl_sa/teacher");
    world.pass(Millis::from_secs(11));
    assert_eq!(world.slot(key).offer, 2);
    assert_eq!(world.offers.len(), 2);
}

#[test]
fn old_news_is_refused() {
    let (mut world, plan) = world_with(&["hcrl_sa"], &[22_000]);
    let key = world.key(&plan, "hcrl_sa/teacher");
    let slot = world.slot(key);
    let now = world.now;
    let stale = Event::SlotSeen { key, slot, revision: Revision(0) };
    assert!(matches!(apply(&mut world.state, now, stale), Err(Refused::Stale { .. })));
    let old_beat = Event::Beat { beat: Box::new(beat("n1", 1, vec![])) };
    assert!(matches!(apply(&mut world.state, now, old_beat), Err(Refused::OldBeat { .. })));
}

#[test]
fn a_restarted_coordinator_says_the_same() {
    let (mut world, plan) = world_with(&["hcrl_sa", "set_01"], &[22_000]);
    let key = world.key(&plan, "hcrl_sa/teacher");
    world.hold(key, 0);
    let manifest = common::digest::Digest::of(b"m");
    let slot = common::slot::Slot {
        state: SlotState::Finished { place: World::place("n1", "GPU-0", 8192), manifest, duration_ms: 1 },
        ..world.slot(key)
    };
    let revision = world.revision();
    world.tell(Event::SlotSeen { key, slot, revision });

    let mut fresh = coordinator_core::State::new(world.state.options.clone());
    let mut facts: Vec<Event> = Vec::new();
    for seen in world.state.chains.values() {
        facts.push(Event::ChainSeen { record: Box::new(seen.record.clone()), revision: seen.revision });
    }
    for (key, seen) in &world.state.slots {
        facts.push(Event::SlotSeen { key: *key, slot: seen.slot.clone(), revision: seen.revision });
    }
    for seen in world.state.nodes.values() {
        facts.push(Event::Beat { beat: Box::new(seen.beat.clone()) });
    }
    facts.push(Event::Loaded);
    facts.into_iter().for_each(|fact| drop(apply(&mut fresh, world.now, fact)));
    let effects = coordinator_core::due(&fresh, world.now);
    let verifies = effects.iter().filter(|e| matches!(e, coordinator_core::Effect::Verify { .. })).count();
    assert_eq!(verifies, 1, "{effects:?}");
}

/// Found by the simulator: the untaken offer kept the card's only place, also from its own job.
#[test]
fn an_offer_nobody_takes_does_not_shut_its_own_job_out() {
    let mut report = gpu("GPU-0", 22_000);
    report.max_jobs = 1;
    let mut world = World::new(vec![beat("n1", 1, vec![report])]);
    let plan = plan(&request(&["hcrl_sa"]), &Default::default()).unwrap();
    world.apply_plan(&plan);
    let key = world.key(&plan, "hcrl_sa/teacher");
    world.pass(Millis::from_secs(11));
    assert_eq!(world.slot(key).offer, 2);
}

#[test]
fn an_offer_beyond_a_cards_budget_would_be_noticed() {
    let mut world = World::new(vec![beat("n1", 1, vec![gpu("GPU-0", 22_000)])]);
    let plan = plan(&request(&["hcrl_sa", "set_01"]), &Default::default()).unwrap();
    world.tell(Event::PlanSeen { plan: Box::new(plan.clone()) });
    for id in ["hcrl_sa", "set_01"] {
        let id = common::ids::ChainId { plan: plan.id.clone(), dataset: dataset(id) };
        let record = common::chain::ChainRecord::from_plan(&plan, &id).unwrap();
        let revision = world.revision();
        world.tell(Event::ChainSeen { record: Box::new(record), revision });
    }
    let effects = coordinator_core::due(&world.state, world.now);
    assert_eq!(effects.len(), 2, "two offers: {effects:?}");
    let check = coordinator_core::invariants::check_offers;
    assert_eq!(check(&world.state, world.now, &effects), []);
    world.tell(Event::Beat { beat: Box::new(beat("n1", 2, vec![gpu("GPU-0", 16_000)])) });
    assert_eq!(check(&world.state, world.now, &effects).len(), 1, "2 x 8192 of 16000");
}
