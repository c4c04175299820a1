//! Effects become tasks. Each task ends with exactly one [`Told`] that frees the effect's key, even if it
//! panics; what came of it travels in the same message or was told before.

use crate::agent::Told;
use crate::clock::Clock;
use crate::logs::{Logs, Note};
use crate::process::{self, Card, Killed, Plan, Processes, Spawner};
use crate::runs::Runs;
use crate::settings;
use crate::slots::Slots;
use crate::store::{checkpoints, inputs, kept, results};
use crate::workdir::Layout;
use agent_core::{ChildExit, Effect, Event, Inputs, Run, RunId, SavedRun, State};
use artifacts::Store;
use common::config::Config;
use common::messages::{DeviceKind, JobOffer};
use common::trainer_protocol::{PROTOCOL_VERSION, Start, ToTrainer, encode_frame};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::Sender;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

/// How long one kill waits for its child before it is said again.
const KILL_WAIT: Duration = Duration::from_secs(2);

/// Everything effects are performed with.
pub struct Performer {
    pub config: Arc<Config>,
    pub clock: Clock,
    pub layout: Layout,
    pub store: Store,
    pub slots: Slots,
    pub spawner: Spawner,
    pub processes: Processes,
    pub trainer: PathBuf,
    pub logs: Logs,
    pub told: Sender<Told>,
}

impl Performer {
    /// Starts the work of one effect.
    pub fn start(&self, effect: Effect, state: &State, runs: &mut Runs) {
        let key = effect.key();
        match effect {
            Effect::ReadSlot { key: slot } => {
                let slots = self.slots.clone();
                self.task(key, async move {
                    let outcome = slots.read(&slot).await;
                    Some(Event::SlotRead { key: slot, outcome })
                });
            }
            Effect::WriteSlot { key: slot, expected, slot: record } => {
                let slots = self.slots.clone();
                self.task(key, async move {
                    let outcome = slots.write(&slot, expected, &record).await;
                    Some(Event::SlotWritten { key: slot, wrote: record, outcome })
                });
            }
            Effect::Fetch { run, offer } => self.fetch(key, run, *offer, runs),
            Effect::Spawn { run, offer, inputs } => self.spawn(key, run, &offer, inputs, state, runs),
            Effect::AskStop { run, reason, checkpoint } => self.ask(key, run, reason, checkpoint),
            Effect::Kill { run, fenced, hung } => {
                if fenced {
                    runs.stop(&run);
                }
                match state.runs.get(&run).filter(|_| hung) {
                    Some(hung) => self.diagnose_and_kill(key, hung, runs),
                    None => self.kill(key, run),
                }
            }
            Effect::StoreCheckpoint { run, checkpoint } => {
                let store = self.store.clone();
                self.work(key, &run, runs, "checkpoint", async move {
                    let seq = checkpoint.seq;
                    match checkpoints::store(&store, &run, &checkpoint).await {
                        Ok(()) => Event::CheckpointStored { run, seq },
                        Err(problem) => Event::CheckpointFailed { run, seq, problem },
                    }
                });
            }
            Effect::StoreResult(saved) => self.upload(key, *saved, runs),
            Effect::Clean { run, keep } => {
                runs.stop(&run);
                let (layout, processes) = (self.layout.clone(), self.processes.clone());
                self.task(key, async move {
                    clean(layout, run, keep).await;
                    processes.forget(&run);
                    Some(Event::Cleaned { run })
                });
            }
        }
    }

    fn fetch(&self, key: String, run: RunId, offer: JobOffer, runs: &Runs) {
        let (store, layout) = (self.store.clone(), self.layout.clone());
        let parents_max_bytes = u64::from(self.config.agent.parents_cache_gib) << 30;
        self.work(key, &run, runs, "fetch", async move {
            inputs::fetch(&store, &layout, parents_max_bytes, run, &offer).await
        });
    }

    fn upload(&self, key: String, saved: SavedRun, runs: &Runs) {
        let (store, layout, run) = (self.store.clone(), self.layout.clone(), saved.run);
        self.work(key, &run, runs, "upload", async move {
            match results::upload(&store, &layout, &saved).await {
                Ok(manifest) => Event::ResultStored { run, manifest },
                Err(problem) => Event::ResultFailed { run, problem },
            }
        });
    }

    fn spawn(
        &self,
        key: String,
        run: RunId,
        offer: &JobOffer,
        inputs: Inputs,
        state: &State,
        runs: &mut Runs,
    ) {
        let device = state.ledger.device(&offer.place.device);
        let Some(device) = device.map(|d| d.facts()) else {
            let message = format!("device {} is gone", offer.place.device);
            return self.task(key, async move { Some(Event::SpawnFailed { run, message }) });
        };
        let budget = offer.place.reserve_mib;
        let devices = state.ledger.devices().count();
        let most = state.ceilings.most(offer, &device.model);
        let resumed_from_epoch = inputs.resumed_from_epoch;
        let start = Start {
            protocol: PROTOCOL_VERSION,
            plan: offer.job.plan.clone(),
            dataset: offer.job.name.dataset.clone(),
            phase: offer.job.name.phase,
            attempt: offer.attempt,
            captures_dir: inputs.captures_dir,
            semantic: offer.spec.inputs.semantic.clone(),
            tuning: settings::tuning(&self.config, &offer.spec, device, devices, budget, most),
            scratch_dir: self.layout.scratch(&run),
            cache_dir: self.layout.prepared(),
            parents: inputs.parents,
            resume_from: inputs.resume_from,
            traceparent: runs.begin_training(&run).or_else(|| offer.traceparent.clone()),
        };
        let plan = Plan {
            run,
            program: self.trainer.clone(),
            start,
            card: (device.kind == DeviceKind::Gpu).then(|| Card {
                id: device.id.to_string(),
                memory_share: (budget.0 as f64 / device.total_mib.0.max(1) as f64).clamp(0.01, 1.0),
            }),
            log: self.layout.process_log(&offer.job, &run),
            note: Note::new(offer.job.clone(), run, offer.place.node.clone()),
            logs: self.logs.clone(),
            clock: self.clock,
            resumed_from_epoch,
        };
        let (spawner, processes, told) = (self.spawner.clone(), self.processes.clone(), self.told.clone());
        self.task(key, async move {
            process::spawn(plan, spawner, processes, told).await;
            None
        });
    }

    fn ask(&self, key: String, run: RunId, reason: String, checkpoint: bool) {
        let processes = self.processes.clone();
        self.task(key, async move {
            let asked = tokio::task::spawn_blocking(move || {
                let frame =
                    encode_frame(&ToTrainer::Stop { reason, checkpoint }).map_err(|e| e.to_string())?;
                processes.write(&run, &frame).map_err(|e| e.to_string())
            });
            // One that can not be asked (gone, or deaf) is killed when its time is over.
            if let Ok(Err(error)) = asked.await {
                tracing::warn!(%run, error, "the trainer could not be asked to stop");
            }
            Some(Event::StopAsked { run })
        });
    }

    fn kill(&self, key: String, run: RunId) {
        self.task(key, kill(self.processes.clone(), run));
    }

    /// What the child hangs in is written to its log first, unless the slot is lost meanwhile.
    fn diagnose_and_kill(&self, key: String, hung: &Run, runs: &Runs) {
        let (run, processes) = (hung.id, self.processes.clone());
        let log = self.layout.process_log(&hung.offer.job, &run);
        let pid = hung.state.child().map(|child| child.pid);
        let stop = runs.get(&run).map_or_else(CancellationToken::new, |handle| handle.stop.clone());
        self.task(key, async move {
            if let Some(pid) = pid {
                tokio::select! {
                    written = process::diagnose::write(&log, pid) => {
                        if let Err(error) = written {
                            tracing::warn!(%run, %error, "what the trainer hangs in is not in its log");
                        }
                    }
                    () = stop.cancelled() => {}
                }
            }
            kill(processes, run).await
        });
    }

    /// Work for an attempt: inside its span, and stopped with it.
    fn work(
        &self,
        key: String,
        run: &RunId,
        runs: &Runs,
        what: &'static str,
        work: impl Future<Output = Event> + Send + 'static,
    ) {
        let (span, stop) = match runs.get(run) {
            Some(handle) => (child_span(&handle.span, what), handle.stop.clone()),
            None => (Span::none(), CancellationToken::new()),
        };
        self.task(key, async move {
            tokio::select! {
                event = work.instrument(span) => Some(event),
                () = stop.cancelled() => None,
            }
        });
    }

    fn task(&self, key: String, work: impl Future<Output = Option<Event>> + Send + 'static) {
        let told = self.told.clone();
        tokio::spawn(async move {
            let event = match tokio::spawn(work).await {
                Ok(event) => event,
                Err(error) => {
                    tracing::error!(%error, key, "an effect ended abnormally and will be tried again");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    None
                }
            };
            // A loop that is gone needs no news.
            let _ = told.send(Told { event, ends: Some(key) }).await;
        });
    }
}

async fn kill(processes: Processes, run: RunId) -> Option<Event> {
    match processes.kill(&run) {
        Killed::Never => {
            let (exit, stderr_tail) = (ChildExit::NeverStarted, String::new());
            Some(Event::Exited { run, exit, stderr_tail, missing: Vec::new() })
        }
        Killed::Child => {
            let gone = tokio::task::spawn_blocking(move || processes.wait_gone(&run, KILL_WAIT));
            // Its end is told by whoever waits for it; a little later than the reaping.
            drop(gone.await);
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

fn child_span(parent: &Span, what: &'static str) -> Span {
    match what {
        "fetch" => tracing::info_span!(parent: parent, "fetch"),
        "upload" => tracing::info_span!(parent: parent, "upload"),
        _ => tracing::info_span!(parent: parent, "checkpoint"),
    }
}

/// Deletes a scratch folder; what was just stopped may write a last file meanwhile. A finished result in it is put
/// aside first, or forgotten if the store has it.
async fn clean(layout: Layout, run: RunId, keep: bool) {
    let folder = layout.scratch(&run);
    let scratch = folder.clone();
    let put_aside = tokio::task::spawn_blocking(move || match keep {
        true => kept::keep(&layout, &scratch),
        false => kept::forget(&layout, &run.key),
    });
    if let Err(error) = put_aside.await {
        tracing::error!(%run, %error, "a finished result may be lost");
    }
    for _ in 0..3 {
        match tokio::fs::remove_dir_all(&folder).await {
            Ok(()) => return,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => tracing::warn!(folder = %folder.display(), %error, "scratch is not deleted yet"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
