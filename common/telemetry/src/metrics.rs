//! Every metric the system exports, in one table. A handle does nothing while OTLP is off, and label sets
//! stay small: never a plan, run or process id.
//!
//! ```
//! use telemetry::metrics;
//! metrics::COMMIT.add(1, &[("outcome", "won")]);
//! metrics::PHASE_DURATION.record(12.5, &[("phase", "teacher"), ("dataset", "hcrl_sa"), ("result", "ok")]);
//! ```

use opentelemetry::{KeyValue, global, metrics as otel};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set once a receiver is configured; handles used before stay unbound and cost one load.
static ON: AtomicBool = AtomicBool::new(false);

pub(crate) fn switch_on() {
    ON.store(true, Ordering::Release);
}

/// Label names and values, for example `[("phase", "teacher")]`.
pub type Labels<'l> = &'l [(&'static str, &'l str)];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Description {
    pub name: &'static str,
    /// UCUM, as OTLP wants it: `s`, `By`, `1`, `{phase}`.
    pub unit: &'static str,
    pub text: &'static str,
    pub kind: Kind,
}

macro_rules! handle {
    ($(#[$doc:meta])* $type:ident, $kind:expr, $instrument:ty, $builder:ident, $verb:ident, $value:ty) => {
        $(#[$doc])*
        pub struct $type {
            pub description: Description,
            bound: OnceLock<$instrument>,
        }

        impl $type {
            const fn new(name: &'static str, unit: &'static str, text: &'static str) -> Self {
                let description = Description { name, unit, text, kind: $kind };
                $type { description, bound: OnceLock::new() }
            }

            pub fn $verb(&self, value: $value, labels: Labels<'_>) {
                if !ON.load(Ordering::Acquire) {
                    return;
                }
                let labels: Vec<KeyValue> =
                    labels.iter().map(|(name, value)| KeyValue::new(*name, (*value).to_owned())).collect();
                self.bound.get_or_init(|| {
                    let Description { name, unit, text, .. } = self.description;
                    global::meter("coord").$builder(name).with_unit(unit).with_description(text).build()
                })
                .$verb(value, &labels);
            }
        }
    };
}

handle!(
    /// Only grows.
    Counter, Kind::Counter, otel::Counter<u64>, u64_counter, add, u64
);
handle!(
    /// Last value counts.
    Gauge, Kind::Gauge, otel::Gauge<f64>, f64_gauge, record, f64
);
handle!(
    /// Distribution of values.
    Histogram, Kind::Histogram, otel::Histogram<f64>, f64_histogram, record, f64
);

macro_rules! table {
    ($($handle:ident: $type:ident = $name:literal, $unit:literal, $text:literal;)*) => {
        $(#[doc = $text] pub static $handle: $type = $type::new($name, $unit, $text);)*

        /// Every metric there is; dashboards and alerts are checked against it.
        pub static TABLE: &[&Description] = &[$(&$handle.description),*];
    };
}

table! {
    PHASE_DURATION: Histogram = "coord.phase.duration", "s",
        "Time from lease to end of an attempt, by phase, dataset and result";
    PHASE_QUEUE_DURATION: Histogram = "coord.phase.queue.duration", "s",
        "Time from ready to leased, by phase and dataset";
    PHASES: Gauge = "coord.phases", "{phase}", "Phase jobs, by state";
    DISPATCH_LATENCY: Histogram = "coord.dispatch.latency", "s", "Time from offer to lease";
    SCHEDULE_PASS_DURATION: Histogram = "coord.schedule.pass.duration", "s",
        "Time of one pass over everything that is due";
    SCHEDULE_BLOCKED: Gauge = "coord.schedule.blocked", "{phase}", "Jobs that wait, by reason";
    LEASE_EXPIRED: Counter = "coord.lease.expired", "{lease}", "Leases that ran out";
    RECOVERY: Counter = "coord.recovery", "{recovery}", "Attempts started again, by cause";
    OOM: Counter = "coord.oom", "{event}", "Out-of-memory events, by phase and gpu_model";
    BATCH_ADJUSTED: Counter = "coord.batch.adjusted", "{adjustment}", "Micro-batches made smaller, by phase";
    CHECKPOINT_BYTES: Counter = "coord.checkpoint.bytes", "By", "Bytes of checkpoints uploaded, by phase";
    CHECKPOINT_UPLOAD_DURATION: Histogram = "coord.checkpoint.upload.duration", "s",
        "Time of one checkpoint upload, by phase";
    COMMIT: Counter = "coord.commit", "{commit}", "Commits, by outcome: won, lost or duplicate";
    TRAIN_STEP_RATE: Gauge = "coord.train.step.rate", "{step}/s",
        "Optimiser steps a second, by phase and dataset";
    TRAIN_LOSS: Gauge = "coord.train.loss", "1", "Training loss of the last epoch, by phase and dataset";
    TRAIN_SAMPLES: Counter = "coord.train.samples", "{sample}", "Samples trained on, by phase and dataset";
    AGENT_HEARTBEAT_AGE: Gauge = "coord.agent.heartbeat.age", "s", "Time since the last beat, by node";
    GPU_MEMORY_RESERVED: Gauge = "coord.gpu.memory.reserved", "By", "Memory that the ledger holds, by hw.id";
    GPU_MEMORY_UNMANAGED: Gauge = "coord.gpu.memory.unmanaged", "By",
        "Memory that foreign processes use, by hw.id";
    GPU_XID: Counter = "coord.gpu.xid", "{error}", "Driver errors, by hw.id and xid";
    GPU_POWER_DRAW: Gauge = "coord.gpu.power.draw", "W", "Power, by hw.id";
    GPU_TEMPERATURE: Gauge = "coord.gpu.temperature", "Cel", "Temperature, by hw.id";
    HW_GPU_MEMORY_LIMIT: Gauge = "hw.gpu.memory.limit", "By", "Size of the memory, by hw.id and hw.name";
    HW_GPU_MEMORY_USAGE: Gauge = "hw.gpu.memory.usage", "By",
        "Memory in use by all processes, by hw.id and hw.name";
    HW_GPU_UTILIZATION: Gauge = "hw.gpu.utilization", "1",
        "Share of time that kernels ran, by hw.id and hw.name";
    LEADER: Gauge = "coord.leader", "1", "1 while this coordinator is the active one, else 0";
    LOG_LAG: Gauge = "coord.log.lag", "{event}", "Audit events written but not yet read, by consumer";
    RECONCILE_REPAIRS: Counter = "coord.reconcile.repairs", "{repair}",
        "Differences found and mended, by kind";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_well_formed() {
        let names: BTreeSet<_> = TABLE.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), TABLE.len());
        for row in TABLE {
            let clean = |c: char| c.is_ascii_lowercase() || c == '.' || c == '_';
            assert!(row.name.chars().all(clean), "{row:?}");
            assert!(!row.unit.is_empty() && !row.text.is_empty(), "{row:?}");
        }
    }

    #[test]
    fn a_handle_before_any_receiver_stays_unbound() {
        static UNUSED: Counter = Counter::new("coord.test", "1", "");
        UNUSED.add(1, &[("a", "b")]);
        assert!(UNUSED.bound.get().is_none());
    }
}
