//! Small worlds for the tests of the core.
#![allow(dead_code, reason = "each test binary uses its own part of this room")]

use common::chain::{ChainRecord, JobState};
use common::config::{Config, Tuning};
use common::digest::Digest;
use common::ids::{Attempt, ChainId, DatasetId, DeviceId, Incarnation, JobName, NodeId, Phase, Revision};
use common::job_key::JobKey;
use common::messages::{DeviceKind, DeviceReport, NodeBeat};
use common::node::{DecidedBy, NodeRecord, NodeStanding};
use common::plan::{MemoryNeed, Plan, PlanOptions};
use common::registry::{CommittedRef, RegistryEntry};
use common::slot::{Place, Slot, SlotState};
use common::trainer_protocol::Stage;
use common::units::{Mib, Millis, UnixMs};
use coordinator_core::planner::{Base, DatasetRequest, PhaseRequest, Request, plan};
use coordinator_core::{Effect, Event, Options, State, apply, due};
use serde_json::json;
use std::collections::BTreeMap;

pub fn dataset(name: &str) -> DatasetId {
    name.parse().unwrap()
}

pub fn job(text: &str) -> JobName {
    text.parse().unwrap()
}

pub fn id(plan: &Plan, name: &str) -> common::ids::JobId {
    common::ids::JobId { plan: plan.id.clone(), name: job(name) }
}

pub fn depends_on() -> BTreeMap<Phase, Vec<Phase>> {
    BTreeMap::from([
        (Phase::Teacher, vec![]),
        (Phase::Student, vec![Phase::Teacher]),
        (Phase::Fusion, vec![Phase::Student]),
    ])
}

pub fn tuning() -> Tuning {
    static TUNING: std::sync::OnceLock<Tuning> = std::sync::OnceLock::new();
    TUNING.get_or_init(|| Config::built_in().tuning(Phase::Teacher)).clone()
}

pub fn phase_request(phase: Phase) -> PhaseRequest {
    let minutes = match phase {
        Phase::Teacher => 45,
        Phase::Student => 35,
        Phase::Fusion => 60,
    };
    PhaseRequest {
        semantic: json!({ "lr": 0.001, "phase": phase.as_str() }),
        tuning: tuning(),
        need: MemoryNeed::flat(Mib(8192), Mib(2048), "test"),
        expected_ms: minutes * 60_000,
        expected_basis: "test".into(),
    }
}

pub fn request(datasets: &[&str]) -> Request {
    let one = |name: &&str| DatasetRequest {
        id: dataset(name),
        digest: Ok(Digest::of(name.as_bytes())),
        priority: 0,
        phases: Phase::ALL.into_iter().map(|p| (p, phase_request(p))).collect(),
    };
    Request {
        created: UnixMs(1000),
        datasets: datasets.iter().map(one).collect(),
        depends_on: depends_on(),
        options: PlanOptions::default(),
        data_url: "file:///data".into(),
        missing: BTreeMap::new(),
        traceparent: None,
    }
}

/// A base in which every job of the plan is committed, with manifests named after the jobs.
pub fn committed_base(request: &Request) -> Base {
    let mut base = Base::default();
    for _ in Phase::ALL {
        let planned = plan(request, &base).unwrap();
        for planned in planned.to_run() {
            if let Some(key) = planned.spec.inputs.key() {
                let name = planned.spec.name.clone();
                let manifest = Digest::of(format!("manifest of {name}").as_bytes());
                let committed = CommittedRef { key, attempt: Attempt(1), manifest };
                base.committed.insert(key, committed.clone());
                let entry = RegistryEntry {
                    name: name.clone(),
                    committed,
                    inputs: planned.spec.inputs.clone(),
                    plan: "p0".parse().unwrap(),
                    plan_created: UnixMs(1),
                    duration_ms: 1000,
                };
                base.registry.insert(name, entry);
            }
        }
    }
    base
}

pub fn gpu(id: &str, budget: u64) -> DeviceReport {
    DeviceReport {
        id: id.parse().unwrap(),
        kind: DeviceKind::Gpu,
        model: "Test GPU".into(),
        total_mib: Mib(budget * 10 / 9),
        budget_mib: Mib(budget),
        reserved_mib: Mib(0),
        foreign_mib: Some(Mib(0)),
        foreign: vec![],
        max_jobs: 2,
        utilization_percent: None,
        fault: None,
    }
}

pub fn beat(node: &str, seq: u64, devices: Vec<DeviceReport>) -> NodeBeat {
    NodeBeat {
        node: node.parse().unwrap(),
        incarnation: Incarnation(1),
        seq,
        agent_version: "test".into(),
        closed_because: None,
        devices,
        running: vec![],
        ceilings: Vec::new(),
    }
}

/// A core with the bus as simple as can be: every write succeeds at once and is seen at once.
pub struct World {
    pub state: State,
    pub now: Millis,
    pub revision: u64,
    pub offers: Vec<common::messages::JobOffer>,
    pub verify: std::collections::BTreeSet<(JobKey, Attempt)>,
    /// What others did, as it was told.
    pub news: Vec<coordinator_core::Note>,
}

impl World {
    pub fn new(nodes: Vec<NodeBeat>) -> World {
        let mut world = World {
            state: State::new(Options::default()),
            now: Millis(1_000_000),
            revision: 0,
            offers: vec![],
            verify: Default::default(),
            news: vec![],
        };
        world.tell(Event::Loaded);
        nodes.into_iter().for_each(|beat| world.tell(Event::Beat { beat: Box::new(beat) }));
        world
    }

    pub fn tell(&mut self, event: Event) {
        self.news.extend(coordinator_core::news(&self.state, &event).map(|(note, _)| note));
        apply(&mut self.state, self.now, event).unwrap();
        let broken = coordinator_core::invariants::check(&self.state);
        assert!(broken.is_empty(), "{broken:?}");
        assert_eq!(coordinator_core::invariants::check_indexes(&self.state), []);
    }

    pub fn revision(&mut self) -> Revision {
        self.revision += 1;
        Revision(self.revision)
    }

    pub fn apply_plan(&mut self, plan: &Plan) {
        self.tell(Event::PlanSeen { plan: Box::new(plan.clone()) });
        self.settle();
    }

    /// Performs what is due until nothing more is.
    pub fn settle(&mut self) {
        for _ in 0..100 {
            let effects = due(&self.state, self.now);
            let mut performed = 0;
            for effect in effects {
                performed += usize::from(self.perform(effect));
            }
            if performed == 0 {
                return;
            }
        }
        panic!("does not come to rest: {:?}", due(&self.state, self.now));
    }

    fn perform(&mut self, effect: Effect) -> bool {
        let revision = self.revision();
        match effect {
            Effect::CreateChain { record } | Effect::WriteChain { record, .. } => {
                self.tell(Event::ChainSeen { record: Box::new(record), revision });
            }
            Effect::WriteSlot { key, slot, .. } => self.tell(Event::SlotSeen { key, slot, revision }),
            Effect::PublishOffer { offer } => {
                let (key, attempt, n) = (offer.key, offer.attempt, offer.offer);
                self.offers.push(*offer);
                self.tell(Event::OfferPublished { key, attempt, offer: n });
            }
            Effect::Verify { key, attempt, .. } => {
                return self.verify.insert((key, attempt));
            }
            Effect::Quarantine { node, reason, .. } => {
                let (standing, by) = (NodeStanding::Quarantined, DecidedBy::Coordinator);
                let record = NodeRecord { node, standing, reason, by, since: UnixMs(1) };
                self.tell(Event::NodeDecided { record: Box::new(record), revision });
            }
            Effect::Publish { entry, .. } => self.tell(Event::RegistrySeen { entry, revision }),
        }
        true
    }

    pub fn key(&self, plan: &Plan, name: &str) -> JobKey {
        let name = job(name);
        let chain = ChainId { plan: plan.id.clone(), dataset: name.dataset.clone() };
        self.state.chains[&chain].record.jobs[&name.phase].key().unwrap()
    }

    pub fn record(&self, plan: &Plan, name: &str) -> &ChainRecord {
        &self.state.chains[&ChainId { plan: plan.id.clone(), dataset: dataset(name) }].record
    }

    pub fn job_state(&self, plan: &Plan, name: &str) -> JobState {
        let name = job(name);
        let chain = ChainId { plan: plan.id.clone(), dataset: name.dataset.clone() };
        self.state.chains[&chain].record.jobs[&name.phase].state.clone()
    }

    pub fn slot(&self, key: JobKey) -> Slot {
        self.state.slots[&key].slot.clone()
    }

    /// The agent's side: puts the slot of a job into another state.
    pub fn agent(&mut self, key: JobKey, change: impl FnOnce(Place) -> SlotState) {
        let slot = self.slot(key);
        let place = slot.state.place().cloned().unwrap();
        let revision = self.revision();
        let slot = Slot { state: change(place), ..slot };
        self.tell(Event::SlotSeen { key, slot, revision });
        self.settle();
    }

    pub fn hold(&mut self, key: JobKey, beat: u64) {
        self.agent(key, |place| SlotState::held(place, Incarnation(1), beat, Stage::Training));
    }

    pub fn finish(&mut self, key: JobKey) {
        let manifest = Digest::of(format!("manifest {key}").as_bytes());
        self.agent(key, |place| SlotState::Finished { place, manifest, duration_ms: 5 });
        let attempt = self.slot(key).attempt;
        let outcome = coordinator_core::state::Verified::Whole;
        self.tell(Event::Verified { key, attempt, outcome });
        self.settle();
    }

    pub fn pass(&mut self, time: Millis) {
        self.now = self.now.plus(time);
        let nodes: Vec<NodeBeat> = self.state.nodes.values().map(|n| n.beat.clone()).collect();
        for mut beat in nodes {
            beat.seq += 1;
            self.tell(Event::Beat { beat: Box::new(beat) });
        }
        self.settle();
    }

    pub fn place(node: &str, device: &str, mib: u64) -> Place {
        Place {
            node: node.parse::<NodeId>().unwrap(),
            device: device.parse::<DeviceId>().unwrap(),
            reserve_mib: Mib(mib),
        }
    }
}
