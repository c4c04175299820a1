//! One value of each record and message, every field filled.

use common::chain::{ChainRecord, JobRecord, JobState, PastAttempt};
use common::config::{DeviceChoice, PlacementPolicy, Tuning};
use common::digest::Digest;
use common::ids::{Attempt, ChainId, Incarnation, JobId, JobName, Phase};
use common::job_key::{JobInputs, JobKey, ParentResult};
use common::messages::{
    Ceiling, DeviceKind, DeviceReport, Event, ForeignUse, JobOffer, NodeBeat, RunningReport, Waits, WaitsFor,
};
use common::plan::{Decision, JobSpec, MemoryNeed, ModelNeed, Plan, PlanOptions, PlannedJob, RunReason};
use common::registry::{CommittedRef, RegistryEntry};
use common::slot::{Cause, Failure, Place, Slot, SlotState, Yield};
use common::trainer_protocol::{
    Device, Done, EpochReport, FailureKind, FromTrainer, PROTOCOL_VERSION, Precision, Stage, Start,
    ToTrainer, TrainerTuning,
};
use common::units::{Mib, UnixMs};
use serde_json::json;
use std::collections::BTreeMap;

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

pub fn name() -> JobName {
    "hcrl_sa/student".parse().expect("a job")
}

pub fn id() -> JobId {
    JobId { plan: "p0123456789".parse().expect("a plan"), name: name() }
}

pub fn key() -> JobKey {
    JobKey(Digest::of(b"key"))
}

pub fn place() -> Place {
    Place {
        node: "gpu-1".parse().expect("a node"),
        device: "GPU-0af3".parse().expect("a device"),
        reserve_mib: Mib(6144),
    }
}

pub fn committed() -> CommittedRef {
    CommittedRef {
        key: JobKey(Digest::of(b"parent")),
        attempt: Attempt(2),
        manifest: Digest::of(b"manifest"),
    }
}

pub fn inputs() -> JobInputs {
    JobInputs {
        phase: Phase::Student,
        code_version: 1,
        semantic: json!({"lr": 0.001, "gat": {"layers": 2, "heads": [4, 1]}}),
        dataset_digest: Digest::of(b"captures"),
        parents: BTreeMap::from([(Phase::Teacher, ParentResult::Committed(Digest::of(b"manifest")))]),
        force_generation: 1,
    }
}

pub fn spec() -> JobSpec {
    JobSpec {
        name: name(),
        inputs: inputs(),
        tuning: Tuning {
            device: DeviceChoice::Auto,
            mixed_precision: Precision::Auto,
            micro_batch: Some(256),
            workers: Some(4),
            threads: Some(2),
            checkpoint_every_epochs: 5,
            checkpoint_every_minutes: 10,
            bad_lines_per_file_max: 100,
        },
        need: MemoryNeed {
            gpu_mib: Mib(6144),
            cpu_mib: Mib(1536),
            basis: "configured".into(),
            on: vec![ModelNeed {
                kind: DeviceKind::Gpu,
                model: "NVIDIA GeForce RTX 4090".into(),
                mib: Mib(5120),
                basis: "measured".into(),
                micro_batch_max: Some(128),
            }],
            policy: PlacementPolicy::Compact,
        },
        priority: 3,
    }
}

pub fn plan() -> Plan {
    Plan {
        id: id().plan,
        created: UnixMs(1_700_000_000_000),
        base_revision: Digest::of(b"base"),
        jobs: vec![PlannedJob {
            spec: spec(),
            decision: Decision::Run { reasons: vec![RunReason::Forced { selector: "all".into() }] },
            expected_ms: 2_100_000,
            expected_basis: "configured".into(),
        }],
        data_url: "file:///captures".into(),
        options: PlanOptions {
            datasets: vec![name().dataset],
            only: vec![Phase::Student],
            force: vec!["all".into()],
            downstream: true,
            priority_datasets: vec![name().dataset],
        },
        traceparent: Some(TRACE.into()),
    }
}

pub fn chain() -> ChainRecord {
    let past = PastAttempt {
        attempt: Attempt(1),
        node: Some(place().node),
        cause: Cause::Infrastructure,
        message: "lease ran out".into(),
    };
    let job = |state| JobRecord {
        spec: spec(),
        state,
        past: vec![past.clone()],
        retries: BTreeMap::from([(Cause::Infrastructure, 1), (Cause::OutOfMemory, 2)]),
        expected_ms: 2_100_000,
        paused: Some("by hand".into()),
    };
    ChainRecord {
        id: ChainId { plan: id().plan, dataset: name().dataset },
        plan_created: UnixMs(1_700_000_000_000),
        data_url: "file:///captures".into(),
        jobs: BTreeMap::from([
            (Phase::Teacher, job(JobState::Committed { committed: committed(), duration_ms: 5 })),
            (Phase::Student, job(JobState::Open { attempt: Attempt(2), backoff_ms: 1000 })),
            (Phase::Fusion, job(JobState::Blocked)),
        ]),
        traceparent: Some(TRACE.into()),
    }
}

pub fn registry() -> RegistryEntry {
    RegistryEntry {
        name: name(),
        committed: committed(),
        inputs: inputs(),
        plan: id().plan,
        plan_created: UnixMs(1_700_000_000_000),
        duration_ms: 2_000_000,
    }
}

pub fn offer() -> JobOffer {
    JobOffer {
        job: id(),
        key: key(),
        attempt: Attempt(2),
        offer: 3,
        spec: spec(),
        place: place(),
        data_url: "file:///captures".into(),
        parents: BTreeMap::from([(Phase::Teacher, committed())]),
        traceparent: Some(TRACE.into()),
        lease_ms: 30_000,
        micro_batch_max: Some(64),
    }
}

pub fn beat() -> NodeBeat {
    NodeBeat {
        node: place().node,
        incarnation: Incarnation(0x0123_4567_89ab_cdef),
        seq: 42,
        agent_version: "0.1.0".into(),
        closed_because: Some("cordoned".into()),
        devices: vec![DeviceReport {
            id: place().device,
            kind: DeviceKind::Gpu,
            model: "NVIDIA GeForce RTX 4090".into(),
            total_mib: Mib(24_564),
            budget_mib: Mib(22_107),
            reserved_mib: Mib(6144),
            foreign_mib: Some(Mib(600)),
            foreign: vec![ForeignUse { pid: 4242, used_mib: Some(Mib(600)) }],
            max_jobs: 2,
            utilization_percent: Some(97),
            fault: Some("Xid 79".into()),
        }],
        running: vec![RunningReport {
            job: id(),
            key: key(),
            attempt: Attempt(2),
            place: place(),
            pid: Some(4711),
            stage: Stage::Training,
            progress: Some("gat 3/10".into()),
            fraction: Some(0.25),
            loss: Some(0.5),
            graphs_per_s: Some(600.0),
            eta_ms: Some(60_000),
            used_mib: Some(Mib(3000)),
            resumed_from_epoch: Some(2),
            waits: Some(Waits {
                what: WaitsFor::Checkpoint,
                why: "503 Slow Down".into(),
                tries: 2,
                left_ms: Some(90_000),
            }),
        }],
        ceilings: vec![Ceiling {
            phase: Phase::Teacher,
            shape: Digest::of(b"shape"),
            device_model: "NVIDIA GeForce RTX 4090".into(),
            micro_batch: 32,
        }],
    }
}

pub fn event() -> Event {
    Event {
        at: UnixMs(1_700_000_000_000),
        job: Some(id()),
        attempt: Some(Attempt(2)),
        node: Some(place().node),
        kind: "committed".into(),
        text: "manifest 0123".into(),
        traceparent: Some(TRACE.into()),
    }
}

pub fn slots() -> Vec<(&'static str, Slot)> {
    let place = place();
    let failure = Failure {
        cause: Cause::OutOfMemory,
        message: "CUDA out of memory".into(),
        checkpointed: true,
        trained_ms: Some(60_000),
    };
    let states = [
        ("offered", SlotState::Offered { place: place.clone() }),
        ("declined", SlotState::Declined { place: place.clone(), reason: "no room".into() }),
        (
            "held",
            SlotState::Held {
                place: place.clone(),
                incarnation: Incarnation(7),
                beat: 9,
                stage: Stage::Training,
                checkpointed: true,
                yields: Some(Yield { because: "a drain".into(), grace_ms: 60_000 }),
            },
        ),
        (
            "finished",
            SlotState::Finished { place: place.clone(), manifest: Digest::of(b"m"), duration_ms: 2_000_000 },
        ),
        ("failed", SlotState::Failed { place, failure }),
        ("closed", SlotState::Closed { because: "the job is over".into() }),
    ];
    let slot = |state| Slot { job: id(), attempt: Attempt(2), offer: 3, state };
    states.into_iter().map(|(name, state)| (name, slot(state))).collect()
}

pub fn to_trainer() -> Vec<(&'static str, ToTrainer)> {
    let start = Start {
        protocol: PROTOCOL_VERSION,
        plan: id().plan,
        dataset: name().dataset,
        phase: Phase::Student,
        attempt: Attempt(2),
        captures_dir: "/data/hcrl_sa".into(),
        semantic: inputs().semantic,
        tuning: TrainerTuning {
            device: Device::Cuda(0),
            threads: 4,
            workers: 8,
            precision: Precision::Bf16,
            micro_batch: 4096,
            memory_budget_mib: Mib(6144),
            checkpoint_every_epochs: 5,
            checkpoint_every_minutes: 10,
            bad_lines_per_file_max: 100,
        },
        scratch_dir: "/scratch/a2".into(),
        cache_dir: "/cache".into(),
        parents: BTreeMap::from([(Phase::Teacher, "/scratch/a2/parents/teacher".into())]),
        resume_from: Some("/scratch/a2/resume".into()),
        traceparent: Some(TRACE.into()),
    };
    let stop = ToTrainer::Stop { reason: "the agent is stopping".into(), checkpoint: true };
    vec![("start", ToTrainer::Start(Box::new(start))), ("stop", stop)]
}

pub fn from_trainer() -> Vec<(&'static str, FromTrainer)> {
    let versions = BTreeMap::from([("libtorch".to_owned(), "2.11.0".to_owned())]);
    let epoch = EpochReport {
        model: "gat".into(),
        epoch: 3,
        epochs: 10,
        fraction: 0.5,
        loss: Some(0.25),
        metrics: BTreeMap::from([("val_f1".to_owned(), 0.75)]),
        graphs_per_s: 600.0,
        eta_ms: Some(60_000),
    };
    let done = Done {
        files: vec!["model.pth".into()],
        metrics: BTreeMap::from([("gat.test_01.f1".to_owned(), 0.5)]),
        tuning_used: BTreeMap::from([("threads".to_owned(), "4".to_owned())]),
        peak_memory_mib: Some(Mib(3000)),
    };
    vec![
        ("ready", FromTrainer::Ready { protocol: PROTOCOL_VERSION, pid: 4711, versions }),
        ("stage", FromTrainer::Stage(Stage::Evaluating)),
        ("epoch", FromTrainer::Epoch(epoch)),
        (
            "memory",
            FromTrainer::Memory {
                allocated_mib: Mib(100),
                reserved_mib: Mib(200),
                free_mib: Some(Mib(300)),
                micro_batch: 64,
                graphs_per_s: 600.0,
            },
        ),
        (
            "batch_adjusted",
            FromTrainer::BatchAdjusted {
                from: 256,
                to: 128,
                accumulation: 2,
                reason: "out of memory".into(),
            },
        ),
        (
            "checkpoint",
            FromTrainer::Checkpoint { dir: "/scratch/a2/ckpt/3".into(), model: "gat".into(), epoch: 3 },
        ),
        (
            "out_of_memory",
            FromTrainer::OutOfMemory { micro_batch: 256, recovered: true, message: "2 GiB".into() },
        ),
        ("done", FromTrainer::Done(done)),
        ("yielded", FromTrainer::Yielded),
        ("failed", FromTrainer::Failed { kind: FailureKind::Diverged, message: "NaN".into() }),
    ]
}
