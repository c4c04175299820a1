//! The bus has lost records: what the coordinator does until holders and store have told what they know.

mod support;

use common::chain::{ChainRecord, JobState};
use common::ids::{Attempt, Incarnation, JobId, NodeId, Phase, Revision};
use common::job_key::JobKey;
use common::manifest::{MadeBy, Manifest};
use common::messages::RunningReport;
use common::plan::Plan;
use common::registry::CommittedRef;
use common::slot::{Slot, SlotState};
use common::trainer_protocol::Stage;
use common::units::{Millis, UnixMs};
use coordinator_core::planner::plan;
use coordinator_core::rebuild::{Found, draft};
use coordinator_core::{Event, explain};
use support::*;

fn world() -> (World, Plan, JobKey) {
    let mut world = World::new(vec![beat("n1", 1, vec![gpu("GPU-0", 22_000)])]);
    let plan = plan(&request(&["hcrl_sa"]), &Default::default()).unwrap();
    world.apply_plan(&plan);
    let key = world.key(&plan, "hcrl_sa/teacher");
    (world, plan, key)
}

fn teacher(plan: &Plan) -> JobId {
    JobId { plan: plan.id.clone(), name: job("hcrl_sa/teacher") }
}

fn says_it_runs(world: &mut World, plan: &Plan, key: JobKey, attempt: u32) {
    let mut beat = beat("n1", 1_000, vec![gpu("GPU-0", 22_000)]);
    beat.running = vec![RunningReport {
        job: teacher(plan),
        key,
        attempt: Attempt(attempt),
        place: World::place("n1", "GPU-0", 8192),
        pid: Some(1),
        stage: Stage::Training,
        progress: None,
        fraction: None,
        loss: None,
        graphs_per_s: None,
        eta_ms: None,
        used_mib: None,
        resumed_from_epoch: None,
        waits: None,
    }];
    world.tell(Event::Beat { beat: Box::new(beat) });
}

fn held(plan: &Plan, attempt: u32) -> Slot {
    let place = World::place("n1", "GPU-0", 8192);
    let state = SlotState::Held {
        place,
        incarnation: Incarnation(1),
        beat: 7,
        stage: Stage::Training,
        checkpointed: false,
        yields: None,
    };
    Slot { job: teacher(plan), attempt: Attempt(attempt), offer: 1, state }
}

fn forget_slot(world: &mut World, key: JobKey) {
    world.tell(Event::SlotGone { key, revision: Revision(u64::MAX) });
}

#[test]
fn a_job_without_a_slot_is_not_offered_while_a_beat_says_that_it_runs() {
    let (mut world, plan, key) = world();
    world.hold(key, 0);
    says_it_runs(&mut world, &plan, key, 1);
    forget_slot(&mut world, key);
    world.settle();
    assert!(!world.state.slots.contains_key(&key));
    let why = explain(&world.state, world.now, &teacher(&plan)).unwrap();
    assert_eq!(
        why.reasons,
        [coordinator_core::explain::Reason::SlotLost { holder: NodeId::new("n1").unwrap() }]
    );
    // The node falls silent: now it is offered, as after any lost node.
    world.now = world.now.plus(Millis::from_secs(60));
    let revision = world.revision();
    world.tell(Event::SlotSeen { key, slot: held(&plan, 1), revision });
    world.settle();
    assert_eq!(world.slot(key).attempt, Attempt(1), "adopted as it was");
    world.finish(key);
    assert!(matches!(world.job_state(&plan, "hcrl_sa/teacher"), JobState::Committed { .. }));
}

#[test]
fn a_chain_that_went_back_in_time_takes_its_running_attempt_up_again() {
    let (mut world, plan, key) = world();
    let revision = world.revision();
    world.tell(Event::SlotSeen { key, slot: held(&plan, 5), revision });
    world.settle();
    let open = world.record(&plan, "hcrl_sa").jobs[&Phase::Teacher].open_attempt();
    assert_eq!(open, Some(Attempt(5)));
    assert!(matches!(world.slot(key).state, SlotState::Held { .. }), "it goes on");
}

#[test]
fn a_number_that_was_used_is_not_offered_again() {
    let (mut world, plan, key) = world();
    forget_slot(&mut world, key);
    world.tell(Event::AttemptUsed { key, attempt: Attempt(3) });
    world.settle();
    let open = |world: &World| world.record(&plan, "hcrl_sa").jobs[&Phase::Teacher].open_attempt();
    assert_eq!(open(&world), Some(Attempt(1)), "its holder may not have had time to say so");
    world.pass(world.state.options.unreachable.plus(Millis(1)));
    assert_eq!((open(&world), world.slot(key).attempt), (Some(Attempt(4)), Attempt(4)));
    assert!(world.record(&plan, "hcrl_sa").jobs[&Phase::Teacher].past.is_empty(), "nothing has failed");
    world.hold(key, 0);
    world.tell(Event::AttemptUsed { key, attempt: Attempt(4) });
    world.settle();
    assert_eq!(world.slot(key).attempt, Attempt(4), "what runs is not disturbed by its own traces");
}

#[test]
fn a_commit_that_only_the_store_knows_serves() {
    let (mut world, plan, key) = world();
    forget_slot(&mut world, key);
    let committed = CommittedRef { key, attempt: Attempt(2), manifest: common::digest::Digest::of(b"m") };
    world.tell(Event::ResultFound { committed: committed.clone() });
    world.settle();
    assert_eq!(world.job_state(&plan, "hcrl_sa/teacher"), JobState::UpToDate { committed });
    assert!(matches!(world.job_state(&plan, "hcrl_sa/student"), JobState::Open { .. }), "unlocked");
}

/// What the store keeps of a run of `world` up to now.
fn kept(world: &World, plan: &Plan) -> Found {
    let mut found = Found { plans: vec![plan.clone()], ..Found::default() };
    for (id, seen) in &world.state.chains {
        for (phase, job) in &seen.record.jobs {
            let Some(result) = job.state.result() else { continue };
            let manifest = Manifest {
                schema: Manifest::SCHEMA,
                job: id.job(*phase),
                key: result.key,
                attempt: result.attempt,
                inputs: job.spec.inputs.clone(),
                files: vec![],
                metrics: Default::default(),
                made: MadeBy {
                    node: NodeId::new("n1").unwrap(),
                    device_model: "test".into(),
                    agent_version: "test".into(),
                    started: UnixMs(5),
                    duration_ms: 5,
                    peak_memory_mib: None,
                    tuning_used: Default::default(),
                },
            };
            found.results.push((result.clone(), manifest));
        }
    }
    found
}

#[test]
fn chains_and_registry_come_back_from_plans_and_markers() {
    let (mut world, plan, key) = world();
    world.hold(key, 0);
    world.finish(key);
    let record = world.record(&plan, "hcrl_sa").clone();
    let draft = draft(&kept(&world, &plan));
    let back: &ChainRecord = &draft.chains[0];
    assert_eq!(back.jobs[&Phase::Teacher].state, record.jobs[&Phase::Teacher].state);
    assert_eq!(back.jobs[&Phase::Student].key(), record.jobs[&Phase::Student].key());
    assert!(matches!(back.jobs[&Phase::Student].state, JobState::Open { .. }));
    assert_eq!(draft.open_chains().len(), 1);
    let known = &world.state.registry[&job("hcrl_sa/teacher")].entry;
    assert_eq!(draft.registry, std::slice::from_ref(known));
}

#[test]
fn a_cancelled_chain_stays_cancelled() {
    let (mut world, plan, _) = world();
    let cancelled = {
        let record = world.record(&plan, "hcrl_sa");
        coordinator_core::transition::cancel(record, &Phase::ALL, "enough").unwrap().0
    };
    let revision = world.revision();
    world.tell(Event::ChainSeen { record: Box::new(cancelled.clone()), revision });
    let found = Found { over: vec![cancelled.clone()], ..kept(&world, &plan) };
    let draft = draft(&found);
    assert_eq!(draft.chains, [cancelled]);
    assert!(draft.open_chains().is_empty());
}
