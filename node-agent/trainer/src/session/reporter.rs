//! What a running phase tells the agent, throttled.

use std::io::Write;
use std::path::Path;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use common::trainer_protocol::{EpochReport, FromTrainer, Stage, write_frame};
use common::units::Mib;

use super::Mailbox;
use crate::fit::{Listener, StopRequest};
use crate::memory::Memory;

/// At most four progress reports a second.
const REPORT_EVERY: Duration = Duration::from_millis(250);
const MEMORY_EVERY: Duration = Duration::from_secs(2);

/// A [`Listener`] that writes frames.
pub struct Reporter<'a, W: Write> {
    output: &'a mut W,
    mailbox: &'a Mailbox,
    last_report: Option<Instant>,
    last_memory: Option<Instant>,
    memory: Memory,
    micro_batch: u32,
    graphs_per_s: f64,
    /// Bytes.
    reserved_peak: u64,
    /// The end of an epoch that came too soon after the last report: sent with the next one that is due, or
    /// before the phase goes on to another stage.
    pending: Option<EpochReport>,
    /// The first failed write: nobody reads any more, so the phase should end.
    broken: bool,
}

impl<'a, W: Write> Reporter<'a, W> {
    pub fn new(output: &'a mut W, mailbox: &'a Mailbox) -> Self {
        Self {
            output,
            mailbox,
            last_report: None,
            last_memory: None,
            memory: Memory::unwatched(),
            micro_batch: 0,
            graphs_per_s: 0.0,
            reserved_peak: 0,
            pending: None,
            broken: false,
        }
    }

    /// From now on pressure is told of this memory.
    pub fn watch(&mut self, memory: Memory) {
        self.memory = memory;
    }

    /// The most that was taken from a device where memory is reserved, as far as it was looked at.
    pub fn device_peak(&self) -> Option<Mib> {
        self.memory.budget().map(|_| Mib::from_bytes_ceil(self.reserved_peak)).filter(|peak| *peak > Mib(0))
    }

    fn tell_memory(&mut self) {
        let mib = |bytes: u64| Mib::from_bytes_ceil(bytes);
        if let Some(now) = self.memory.pressure() {
            self.reserved_peak = self.reserved_peak.max(now.reserved);
            self.send(&FromTrainer::Memory {
                allocated_mib: mib(now.allocated),
                reserved_mib: mib(now.reserved),
                free_mib: Some(mib(now.free)),
                micro_batch: self.micro_batch,
                graphs_per_s: self.graphs_per_s,
            });
        }
    }

    /// Writes a frame; after a failed write nothing more is tried.
    pub fn send(&mut self, message: &FromTrainer) {
        if self.broken {
            return;
        }
        if let Err(error) = write_frame(self.output, message) {
            tracing::error!(%error, "the agent does not read any more");
            self.broken = true;
        }
    }

    /// Sends the report that waits, if any.
    pub fn flush(&mut self) {
        if let Some(report) = self.pending.take() {
            self.send(&FromTrainer::Epoch(report));
        }
    }
}

/// True, and the clock is set, if `every` has passed since `last`.
fn due(last: &mut Option<Instant>, every: Duration) -> bool {
    let due = last.is_none_or(|last| last.elapsed() >= every);
    if due {
        *last = Some(Instant::now());
    }
    due
}

impl<W: Write> Listener for Reporter<'_, W> {
    fn stage(&mut self, stage: Stage) {
        tracing::info!(stage = stage.as_str(), "stage");
        self.flush();
        self.send(&FromTrainer::Stage(stage));
    }

    fn epoch(&mut self, report: &mut dyn FnMut() -> EpochReport, last_of_epoch: bool) {
        if due(&mut self.last_report, REPORT_EVERY) {
            let waiting = self.pending.take().filter(|_| !last_of_epoch);
            let report = waiting.unwrap_or_else(report);
            self.graphs_per_s = report.graphs_per_s;
            self.send(&FromTrainer::Epoch(report));
        } else if last_of_epoch {
            self.pending = Some(report());
        }
        if due(&mut self.last_memory, MEMORY_EVERY) {
            self.tell_memory();
        }
    }

    fn micro_batch(&mut self, graphs: u32) {
        self.micro_batch = graphs;
    }

    fn batch_adjusted(&mut self, from: u32, to: u32, accumulation: u32, reason: &str) {
        self.micro_batch = to;
        self.send(&FromTrainer::BatchAdjusted { from, to, accumulation, reason: reason.to_owned() });
    }

    fn out_of_memory(&mut self, micro_batch: u32, recovered: bool, message: &str) {
        let message = message.to_owned();
        self.send(&FromTrainer::OutOfMemory { micro_batch, recovered, message });
    }

    fn checkpoint(&mut self, dir: &Path, model: &str, epoch: u32) {
        self.send(&FromTrainer::Checkpoint { dir: dir.to_owned(), model: model.to_owned(), epoch });
    }

    fn stop_requested(&self) -> Option<StopRequest> {
        if self.broken {
            return Some(StopRequest {
                reason: "the agent does not read any more".to_owned(),
                checkpoint: true,
            });
        }
        self.mailbox.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Resident memory of this process, as the kernel counts it.
pub fn memory_now() -> Option<Mib> {
    status_mib("VmRSS:")
}

/// The most there ever was.
pub fn peak_memory() -> Option<Mib> {
    status_mib("VmHWM:")
}

fn status_mib(field: &str) -> Option<Mib> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(Mib::from_bytes_ceil(kib * 1024))
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::trainer_protocol::read_frame;

    fn report() -> EpochReport {
        EpochReport {
            model: "gat".to_owned(),
            epoch: 1,
            epochs: 2,
            fraction: 0.5,
            loss: Some(1.0),
            metrics: Default::default(),
            graphs_per_s: 1.0,
            eta_ms: None,
        }
    }

    #[test]
    fn progress_is_throttled_and_the_end_of_an_epoch_is_kept() {
        let (mut pipe, mailbox) = (Vec::new(), Mailbox::default());
        let began = Instant::now();
        let mut reporter = Reporter::new(&mut pipe, &mailbox);
        for _ in 0..1000 {
            reporter.epoch(&mut report, false);
        }
        reporter.epoch(&mut report, true);
        reporter.flush();
        let most = 2 + began.elapsed().as_millis() / REPORT_EVERY.as_millis();
        let (mut from, mut seen) = (pipe.as_slice(), 0);
        while let Ok(message) = read_frame::<FromTrainer>(&mut from) {
            seen += u128::from(matches!(message, FromTrainer::Epoch(_)));
        }
        assert!((2..=most).contains(&seen), "{seen} reports");
    }

    #[test]
    fn a_reader_that_is_gone_stops_the_phase() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let mailbox = Mailbox::default();
        let mut gone = Gone;
        let mut reporter = Reporter::new(&mut gone, &mailbox);
        assert_eq!(reporter.stop_requested(), None);
        reporter.stage(Stage::Training);
        assert!(reporter.stop_requested().is_some());
    }

    #[test]
    fn memory_is_told_in_mib() {
        let (now, peak) = (memory_now().unwrap(), peak_memory().unwrap());
        assert!(now > Mib(0) && peak >= Mib(1));
    }
}
