//! A world for the core: a bus with compare-and-swap, and hands that perform what a test lets them.

use agent_core::{
    ABSENT, AttemptState, Change, Changed, ChildExit, DeviceFacts, Effect, Event, FinishedChild, Inputs,
    Options, ReadOutcome, RunId, State, WriteOutcome, apply, due, invariants,
};
use common::config::Config;
use common::digest::Digest;
use common::ids::{
    Attempt, DatasetId, DeviceId, Incarnation, JobId, JobName, NodeId, Phase, PlanId, Revision,
};
use common::job_key::{JobInputs, JobKey};
use common::messages::{DeviceKind, JobOffer};
use common::plan::{JobSpec, MemoryNeed};
use common::slot::{Failure, Place, Slot, SlotState};
use common::trainer_protocol::{Done, FromTrainer, PROTOCOL_VERSION};
use common::units::{Mib, Millis, UnixMs};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;

pub const NODE: &str = "n1";
pub const PID: u32 = 4711;

pub struct World {
    pub state: State,
    pub now: Millis,
    pub slots: BTreeMap<JobKey, (Revision, Slot)>,
    pub revision: u64,
    /// The bus does not answer.
    pub away: bool,
    /// Writes are stored but their answers are lost.
    pub mute: bool,
    pub news: Vec<Change>,
    /// Everything that was due and is no slot work, since last looked at.
    pub asked: Vec<Effect>,
}

pub fn key() -> JobKey {
    JobKey(Digest::of(b"job"))
}

pub fn id(attempt: u32) -> RunId {
    RunId { key: key(), attempt: Attempt(attempt) }
}

pub fn place(mib: u64) -> Place {
    Place { node: NodeId::new(NODE).unwrap(), device: DeviceId::new("cpu").unwrap(), reserve_mib: Mib(mib) }
}

pub fn offer(attempt: u32, count: u32) -> JobOffer {
    let name = JobName::new(DatasetId::new("d").unwrap(), Phase::Teacher);
    // Parsed once: the random orders make thousands of offers.
    static CONFIG: LazyLock<Config> = LazyLock::new(Config::built_in);
    JobOffer {
        job: JobId { plan: PlanId::new("p").unwrap(), name: name.clone() },
        key: key(),
        attempt: Attempt(attempt),
        offer: count,
        spec: JobSpec {
            name,
            inputs: JobInputs {
                phase: Phase::Teacher,
                code_version: 1,
                semantic: serde_json::json!({}),
                dataset_digest: Digest::of(b"data"),
                parents: BTreeMap::new(),
                force_generation: 0,
            },
            tuning: CONFIG.tuning(Phase::Teacher),
            need: MemoryNeed::flat(Mib(1000), Mib(1000), "test"),
            priority: 0,
        },
        place: place(1_000),
        data_url: "/data".into(),
        parents: BTreeMap::new(),
        traceparent: None,
        lease_ms: 0,
        micro_batch_max: None,
    }
}

pub fn cpu(total: u64, used: Option<u64>) -> DeviceFacts {
    DeviceFacts {
        id: DeviceId::new("cpu").unwrap(),
        kind: DeviceKind::Cpu,
        model: "test".into(),
        total_mib: Mib(total),
        used_mib: used.map(Mib),
        processes: None,
        utilization_percent: None,
        fault: None,
        cap_permille: 1000,
        max_jobs: 2,
    }
}

impl World {
    pub fn new() -> World {
        let options = Options::new(NodeId::new(NODE).unwrap(), Incarnation(1));
        let mut world = World {
            state: State::new(options),
            now: Millis(1_000),
            slots: BTreeMap::new(),
            revision: 0,
            away: false,
            mute: false,
            news: Vec::new(),
            asked: Vec::new(),
        };
        world.tell(Event::Devices { taken_at: Millis(0), devices: vec![cpu(1_500, Some(0))] });
        world
    }

    pub fn tell(&mut self, event: Event) {
        if let Ok(Changed(news)) = apply(&mut self.state, self.now, event) {
            self.news.extend(news);
        }
        invariants::check(&self.state).unwrap();
    }

    /// The coordinator's part: a slot is written whatever was there.
    pub fn write_slot(&mut self, state: SlotState, attempt: u32, count: u32) {
        self.revision += 1;
        let slot = Slot { job: offer(1, 1).job, attempt: Attempt(attempt), offer: count, state };
        self.slots.insert(key(), (Revision(self.revision), slot));
    }

    pub fn offer(&mut self, attempt: u32, count: u32) {
        self.write_slot(SlotState::Offered { place: place(1_000) }, attempt, count);
        self.tell(Event::Offer(Box::new(offer(attempt, count))));
        self.settle();
    }

    pub fn slot(&self) -> &SlotState {
        &self.slots[&key()].1.state
    }

    pub fn run(&self, attempt: u32) -> &AttemptState {
        &self.state.runs[&id(attempt)].state
    }

    /// Performs what is due on the bus until nothing more is; the rest is collected in `asked`.
    pub fn settle(&mut self) {
        for _ in 0..20 {
            let effects = due(&self.state, self.now);
            let (bus, rest): (Vec<Effect>, Vec<Effect>) = effects.into_iter().partition(is_bus);
            for effect in rest {
                if !self.asked.contains(&effect) {
                    self.asked.push(effect);
                }
            }
            if bus.is_empty() {
                return;
            }
            bus.into_iter().for_each(|effect| self.perform(effect));
        }
        panic!("it never comes to rest: {:?}", due(&self.state, self.now));
    }

    pub fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::ReadSlot { key } => {
                let outcome = match self.slots.get(&key) {
                    _ if self.away => ReadOutcome::Unavailable { message: "away".into() },
                    Some((revision, slot)) => {
                        ReadOutcome::Found { revision: *revision, slot: Box::new(slot.clone()) }
                    }
                    None => ReadOutcome::Absent,
                };
                self.tell(Event::SlotRead { key, outcome });
            }
            Effect::WriteSlot { key, expected, slot } => {
                let outcome = self.swap(key, expected, &slot);
                self.tell(Event::SlotWritten { key, wrote: slot, outcome });
            }
            other => panic!("{other:?} is no work of the bus"),
        }
    }

    fn swap(&mut self, key: JobKey, expected: Revision, slot: &Slot) -> WriteOutcome {
        let unavailable = WriteOutcome::Unavailable { message: "away".into() };
        if self.away {
            return unavailable;
        }
        if self.slots.get(&key).map_or(ABSENT, |(revision, _)| *revision) != expected {
            return WriteOutcome::Conflict;
        }
        self.revision += 1;
        self.slots.insert(key, (Revision(self.revision), slot.clone()));
        if self.mute { unavailable } else { WriteOutcome::Written { revision: Revision(self.revision) } }
    }

    pub fn pass(&mut self, ms: u64) {
        self.now = self.now.plus(Millis(ms));
        self.tell(Event::Tick);
        self.settle();
    }

    pub fn asked_for(&mut self, what: fn(&Effect) -> bool) -> bool {
        let found = self.asked.iter().any(what);
        self.asked.clear();
        found
    }

    /// From the offer to a running child.
    pub fn running(&mut self, attempt: u32) {
        self.offer(attempt, 1);
        self.tell(Event::Fetched { run: id(attempt), inputs: Inputs::default() });
        self.settle();
        self.tell(Event::Spawned { run: id(attempt), pid: PID, at: UnixMs(1), resumed_from_epoch: None });
        let ready = FromTrainer::Ready { protocol: PROTOCOL_VERSION, pid: PID, versions: BTreeMap::new() };
        self.frame(attempt, ready);
        self.settle();
        self.asked.clear();
    }

    pub fn frame(&mut self, attempt: u32, frame: FromTrainer) {
        self.tell(Event::Frame { run: id(attempt), frame });
    }

    pub fn checkpoint(&mut self, attempt: u32, epoch: u32) {
        let dir = PathBuf::from(format!("/scratch/ckpt/{epoch}"));
        self.frame(attempt, FromTrainer::Checkpoint { dir, model: "gat".into(), epoch });
        self.settle();
    }

    pub fn exit(&mut self, attempt: u32, exit: ChildExit, tail: &str) {
        self.exit_missing(attempt, exit, tail, &[]);
    }

    pub fn exit_missing(&mut self, attempt: u32, exit: ChildExit, tail: &str, missing: &[&str]) {
        self.tell(Event::Exited {
            run: id(attempt),
            exit,
            stderr_tail: tail.to_owned(),
            missing: missing.iter().map(|name| (*name).to_owned()).collect(),
        });
        self.settle();
    }

    /// A running child ends well: its result is to be stored.
    pub fn finish(&mut self, attempt: u32) {
        self.frame(attempt, done());
        self.exit(attempt, ChildExit::Code(0), "");
    }

    pub fn failure(&self) -> Failure {
        match self.slot() {
            SlotState::Failed { failure, .. } => failure.clone(),
            other => panic!("the slot is told {other:?}"),
        }
    }

    pub fn reserved(&self) -> Mib {
        self.state.ledger.devices().map(|d| d.reserved_mib()).sum()
    }
}

pub fn done() -> FromTrainer {
    FromTrainer::Done(Done {
        files: vec!["model".into()],
        metrics: BTreeMap::new(),
        tuning_used: BTreeMap::new(),
        peak_memory_mib: None,
    })
}

/// What a child that ended well left.
pub fn finished() -> FinishedChild {
    let FromTrainer::Done(done) = done() else { unreachable!("`done` is Done") };
    FinishedChild { done, started: UnixMs(1), duration_ms: 5, device_model: "test".into() }
}

fn is_bus(effect: &Effect) -> bool {
    matches!(effect, Effect::ReadSlot { .. } | Effect::WriteSlot { .. })
}
