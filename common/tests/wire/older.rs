//! Neighbours in version during a rolling upgrade. The older agent of this test says what the golden files of
//! its version hold, less every field that may be left out; the newer one says more than we know. Beside them
//! lies what a version before really wrote (`recorded/`, taken before `need.on`, `need.policy`, `lease_ms` and
//! `waits` were there); those bytes never change.

use crate::{from_hex, golden, recorded_bytes, samples};
use common::chain::ChainRecord;
use common::config::PlacementPolicy;
use common::messages::{Event, JobOffer, NodeBeat};
use common::plan::Plan;
use common::registry::RegistryEntry;
use common::slot::{Slot, SlotState};
use common::trainer_protocol::{FromTrainer, PROTOCOL_VERSION, encode_frame, read_frame};
use common::wire;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// Fields that a version may lack: whoever wrote the record before they came did not write them.
const OPTIONAL: &[&str] = &[
    "closed_because",
    "foreign_mib",
    "utilization_percent",
    "fault",
    "progress",
    "fraction",
    "loss",
    "graphs_per_s",
    "eta_ms",
    "used_mib",
    "resumed_from_epoch",
    "waits",
    "left_ms",
    "on",
    "policy",
    "lease_ms",
    "ceilings",
    "micro_batch_max",
    "checkpoint_every_minutes",
    "paused",
    "yields",
    "trained_ms",
    "traceparent",
    "peak_memory_mib",
];

fn change(tree: &mut Value, to: &impl Fn(&mut Map<String, Value>)) {
    match tree {
        Value::Object(map) => {
            map.values_mut().for_each(|child| change(child, to));
            to(map);
        }
        Value::Array(items) => items.iter_mut().for_each(|item| change(item, to)),
        _ => {}
    }
}

/// The body of a recorded message, as a tree.
fn recorded(name: &str) -> Value {
    let text = std::fs::read_to_string(golden(name)).expect("a golden file");
    wire::decode(&from_hex(&text)).expect("a tree")
}

fn older(name: &str) -> Vec<u8> {
    let mut tree = recorded(name);
    change(&mut tree, &|map| {
        OPTIONAL.iter().for_each(|field| drop(map.remove(*field)));
        // Of a held slot; a failure has always had it.
        if map.contains_key("incarnation") {
            map.remove("checkpointed");
        }
    });
    wire::encode(&tree).expect("encodes")
}

/// A slot without what only newer versions say.
fn as_before(mut slot: Slot) -> Slot {
    match &mut slot.state {
        SlotState::Held { yields, checkpointed, .. } => (*yields, *checkpointed) = (None, false),
        SlotState::Failed { failure, .. } => failure.trained_ms = None,
        _ => {}
    }
    slot
}

fn newer(name: &str) -> Vec<u8> {
    let mut tree = recorded(name);
    // Variants of enums are maps of one entry: a second one would be no enum any more.
    change(&mut tree, &|map| {
        if map.len() > 1 {
            map.insert("of_a_later_version".into(), json!({"deep": [1, "two"]}));
        }
    });
    wire::encode(&tree).expect("encodes")
}

fn of_before<T: DeserializeOwned>(name: &str) -> T {
    wire::decode(&recorded_bytes(name)).unwrap_or_else(|e| panic!("{name} as a version before wrote it: {e}"))
}

#[test]
fn what_a_version_before_wrote_is_understood() {
    let beat: NodeBeat = of_before("beat");
    assert_eq!((beat.seq, &beat.running[0].waits), (42, &None));
    assert_eq!(beat.running[0].resumed_from_epoch, Some(2));
    let offer: JobOffer = of_before("offer");
    assert_eq!((offer.key, offer.lease_ms), (samples::key(), 0), "0 = the agent's own clock");
    assert_eq!(offer.spec.need.policy, PlacementPolicy::Spread);
    for (name, full) in samples::slots() {
        assert_eq!(of_before::<Slot>(&format!("slot_{name}")), as_before(full));
    }
    let plan: Plan = of_before("plan");
    assert_eq!(plan.jobs[0].spec.inputs, samples::plan().jobs[0].spec.inputs);
    let chain: ChainRecord = of_before("chain");
    let keys = |chain: &ChainRecord| chain.jobs.values().map(|job| job.key()).collect::<Vec<_>>();
    assert_eq!(keys(&chain), keys(&samples::chain()), "the same job has the same key in both versions");
    assert_eq!(of_before::<RegistryEntry>("registry"), samples::registry());
    assert_eq!(of_before::<Event>("event"), samples::event());
    for (name, full) in samples::from_trainer() {
        let bytes = recorded_bytes(&format!("from_trainer_{name}"));
        let read: FromTrainer = read_frame(&mut bytes.as_slice()).expect("readable");
        match read {
            // So that the agent can say which version it met, and refuse it.
            FromTrainer::Ready { protocol, .. } => assert!(protocol < PROTOCOL_VERSION),
            FromTrainer::Memory { free_mib, micro_batch, .. } => {
                assert_eq!((free_mib, micro_batch), (None, 0), "not told then");
            }
            other => assert_eq!(other, full),
        }
    }
}

#[test]
fn the_beat_of_an_older_agent_is_understood() {
    let beat: NodeBeat = wire::decode(&older("beat")).expect("readable");
    let full = samples::beat();
    assert_eq!((&beat.node, beat.incarnation, beat.seq), (&full.node, full.incarnation, full.seq));
    assert_eq!(beat.closed_because, None);
    assert_eq!(beat.devices[0].foreign_mib, None, "unknown is not zero: nothing is placed beside it");
    assert_eq!(beat.devices[0].budget_mib, full.devices[0].budget_mib);
    assert_eq!(beat.running[0].key, full.running[0].key);
    assert_eq!((&beat.running[0].progress, beat.running[0].loss), (&None, None));
}

#[test]
fn the_slots_of_an_older_agent_are_understood() {
    for (name, full) in samples::slots() {
        let slot: Slot = wire::decode(&older(&format!("slot_{name}"))).expect("readable");
        assert_eq!(slot, as_before(full));
    }
}

#[test]
fn an_older_agent_understands_an_offer_of_a_newer_coordinator() {
    let mut offer: JobOffer = wire::decode(&newer("offer")).expect("readable");
    // The semantic tree is free: it is passed on to the trainer, and its digest is the coordinator's business.
    offer.spec.inputs.semantic = samples::inputs().semantic;
    assert_eq!(offer, samples::offer());
}

#[test]
fn records_of_a_newer_version_are_understood() {
    assert_eq!(wire::decode::<NodeBeat>(&newer("beat")).expect("readable"), samples::beat());
    for (name, full) in samples::slots() {
        assert_eq!(wire::decode::<Slot>(&newer(&format!("slot_{name}"))).expect("readable"), full);
    }
    // A state that we do not know is refused, never taken for another one.
    let mut tree = recorded("slot_closed");
    tree["state"] = json!({"lent": {"to": "gpu-2"}});
    let bytes = wire::encode(&tree).expect("encodes");
    assert!(wire::decode::<Slot>(&bytes).is_err());
    assert!(matches!(samples::slots()[0].1.state, SlotState::Offered { .. }));
}

#[test]
fn frames_of_an_older_trainer_are_understood() {
    for (name, full) in samples::from_trainer() {
        let text = std::fs::read_to_string(golden(&format!("from_trainer_{name}"))).expect("a golden file");
        let mut tree: Value = read_frame(&mut from_hex(&text).as_slice()).expect("a tree");
        change(&mut tree, &|map| {
            ["eta_ms", "peak_memory_mib"].iter().for_each(|field| drop(map.remove(*field)))
        });
        let bytes = encode_frame(&tree).expect("encodes");
        let read: FromTrainer = read_frame(&mut bytes.as_slice()).expect("readable");
        assert_eq!(std::mem::discriminant(&read), std::mem::discriminant(&full), "{name}");
    }
}
