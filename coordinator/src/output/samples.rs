//! Values that the golden texts of this room are made of.

use common::config::Config;
use common::digest::Digest;
use common::ids::{Attempt, JobName, Phase};
use common::job_key::{JobInputs, JobKey, ParentResult};
use common::plan::{Decision, JobSpec, MemoryNeed, Plan, PlannedJob, RunReason};
use common::registry::CommittedRef;
use common::units::{Mib, UnixMs};
use std::collections::BTreeMap;

pub fn name(text: &str) -> JobName {
    text.parse().unwrap()
}

pub fn job(text: &str, decision: Decision) -> PlannedJob {
    let name = name(text);
    let config = Config::built_in();
    let inputs = JobInputs {
        phase: name.phase,
        code_version: 1,
        semantic: serde_json::json!({"lr": 0.001}),
        dataset_digest: Digest::of(b"captures"),
        parents: match name.phase {
            Phase::Teacher => BTreeMap::new(),
            _ => BTreeMap::from([(Phase::Teacher, ParentResult::Pending)]),
        },
        force_generation: 0,
    };
    let need = MemoryNeed::flat(Mib(8192), Mib(2048), "conf");
    let spec = JobSpec { tuning: config.tuning(name.phase), name, inputs, need, priority: 0 };
    PlannedJob { spec, decision, expected_ms: 60_000, expected_basis: "as long as last time".into() }
}

pub fn run(reasons: &[RunReason]) -> Decision {
    Decision::Run { reasons: reasons.to_vec() }
}

pub fn up_to_date() -> Decision {
    let key = JobKey(Digest::of(b"key"));
    Decision::UpToDate {
        committed: CommittedRef { key, attempt: Attempt::FIRST, manifest: Digest::of(b"m") },
    }
}

pub fn plan(jobs: Vec<PlannedJob>) -> Plan {
    Plan {
        id: "p1".parse().unwrap(),
        created: UnixMs(0),
        base_revision: Digest::of(b""),
        jobs,
        data_url: "file:///data".into(),
        options: Default::default(),
        traceparent: None,
    }
}
