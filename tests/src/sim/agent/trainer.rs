//! Trainer children: scripted processes that train, save checkpoints, and now and then run out of memory,
//! diverge, crash, hang, talk nonsense, or end well without a result.

use super::super::queue::{Actor, Ev, Msg};
use super::machine::Ghost;
use crate::sim::World;
use crate::sim::checks::audit;
use agent_core::{ChildExit, Event, Inputs, RunId};
use common::ids::DeviceId;
use common::job_key::JobKey;
use common::messages::JobOffer;
use common::slot::SlotState;
use common::trainer_protocol::{
    Done, EpochReport, FailureKind, FromTrainer, PROTOCOL_VERSION, Stage, exit_code,
};
use common::units::Mib;
use std::collections::VecDeque;

pub struct Child {
    pub pid: u32,
    pub run: RunId,
    /// The life of the agent that started it.
    pub life: u32,
    pub device: DeviceId,
    pub reserved_mib: u64,
    pub used_mib: u64,
    /// Since when the slot belongs to somebody else.
    pub lost_at: Option<u64>,
    script: VecDeque<(u64, Act)>,
    /// What it says last is not heard before this.
    heard_until: u64,
    dying: bool,
}

#[derive(Debug, Clone)]
enum Act {
    Say(FromTrainer),
    Nonsense,
    Exit(ChildExit, Vec<String>),
}

/// Number of epochs of every phase.
const EPOCHS: u32 = 3;

pub fn spawn(w: &mut World, n: usize, offer: &JobOffer, inputs: &Inputs) -> u32 {
    let pid = w.nodes[n].next_pid;
    w.nodes[n].next_pid += 1;
    let script = script(w, inputs.resumed_from_epoch.unwrap_or(0));
    let reserved_mib = offer.place.reserve_mib.0;
    let child = Child {
        pid,
        run: RunId { key: offer.key, attempt: offer.attempt },
        life: w.nodes[n].life,
        device: offer.place.device.clone(),
        reserved_mib,
        used_mib: reserved_mib * w.rng.range(500, 1000) / 1000,
        lost_at: None,
        script,
        heard_until: w.now + 2,
        dying: false,
    };
    let first = child.script.front().map_or(1, |(delay, _)| *delay);
    w.nodes[n].children.insert(pid, child);
    w.after(first, Ev::Child { node: n, pid });
    pid
}

fn script(w: &mut World, done_epochs: u32) -> VecDeque<(u64, Act)> {
    let permille = w.menu.child_faults_permille;
    let fault = w.rng.chance(permille).then(|| w.rng.range(0, 8));
    let fault_at = w.rng.range(1, u64::from(EPOCHS)) as u32;
    let prepare = w.rng.range(300, 5_000);
    let epoch_ms = if w.rng.chance(200) { w.rng.range(8_000, 15_000) } else { w.rng.range(500, 6_000) };
    let say = |delay: u64, frame| (delay, Act::Say(frame));
    let ready = FromTrainer::Ready { protocol: PROTOCOL_VERSION, pid: 1, versions: Default::default() };
    let mut acts = VecDeque::from([
        say(w.rng.range(50, 800), ready),
        say(10, FromTrainer::Stage(Stage::Preparing)),
        say(prepare, FromTrainer::Stage(Stage::Training)),
    ]);
    for epoch in (1..=EPOCHS).filter(|e| *e > done_epochs || fault == Some(0)) {
        if epoch == fault_at && fault.is_some_and(|f| f < 8) {
            break;
        }
        let report = EpochReport {
            model: "gat".into(),
            epoch,
            epochs: EPOCHS,
            fraction: 1.0,
            loss: Some(0.5),
            metrics: Default::default(),
            graphs_per_s: 100.0,
            eta_ms: None,
        };
        acts.push_back(say(epoch_ms, FromTrainer::Epoch(report)));
        let dir = format!("ckpt/{epoch}").into();
        acts.push_back(say(20, FromTrainer::Checkpoint { dir, model: "gat".into(), epoch }));
    }
    let failed = |kind| FromTrainer::Failed { kind, message: "simulated".into() };
    let exit = |code| (200, Act::Exit(ChildExit::Code(code), vec![]));
    let done = FromTrainer::Done(Done {
        files: vec!["gat.safetensors".into()],
        metrics: Default::default(),
        tuning_used: Default::default(),
        peak_memory_mib: Some(Mib(1000)),
    });
    match fault {
        Some(0) => {
            let message = "CUDA out of memory".into();
            acts.push_back(say(100, FromTrainer::OutOfMemory { micro_batch: 8, recovered: false, message }));
            acts.push_back(exit(exit_code::OUT_OF_MEMORY));
        }
        Some(1) => acts.extend([say(100, failed(FailureKind::Diverged)), exit(exit_code::FAILED)]),
        Some(2) => acts.extend([say(100, failed(FailureKind::Internal)), exit(exit_code::FAILED)]),
        Some(3) => acts.push_back((500, Act::Exit(ChildExit::Signal(9), vec![]))),
        Some(4) => {} // hangs
        Some(5) => acts.push_back((500, Act::Nonsense)),
        Some(6) => acts.push_back(exit(exit_code::DONE)),
        Some(7) if w.rng.chance(150) => {
            acts.extend([say(100, failed(FailureKind::UserError)), exit(exit_code::FAILED)]);
        }
        Some(8) => {
            let missing = vec!["gat.safetensors".to_owned()];
            acts.push_back(say(100, done));
            acts.push_back((200, Act::Exit(ChildExit::Code(exit_code::DONE), missing)));
        }
        _ => {
            acts.push_back(say(50, FromTrainer::Stage(Stage::Evaluating)));
            acts.push_back(say(w.rng.range(200, 2_000), done));
            acts.push_back(exit(exit_code::DONE));
        }
    }
    acts
}

/// The next act of a child.
pub fn step(w: &mut World, n: usize, pid: u32) {
    let Some(child) = w.nodes[n].children.get_mut(&pid).filter(|c| !c.dying) else { return };
    let Some((_, act)) = child.script.pop_front() else { return };
    let next = child.script.front().map(|(delay, _)| *delay);
    let run = child.run;
    match act {
        Act::Say(frame) => hear(w, n, pid, Event::Frame { run, frame }),
        Act::Nonsense => hear(w, n, pid, Event::Garbage { run, message: "Segmentation fault".into() }),
        Act::Exit(exit, missing) => return gone(w, n, pid, exit, missing),
    }
    if let Some(delay) = next {
        w.after(delay, Ev::Child { node: n, pid });
    }
}

/// What a child says reaches its agent in order.
fn hear(w: &mut World, n: usize, pid: u32, event: Event) {
    let delay = w.rng.range(1, 4);
    let now = w.now;
    let Some(child) = w.nodes[n].children.get_mut(&pid) else { return };
    let at = (now + delay).max(child.heard_until + 1);
    child.heard_until = at;
    let life = child.life;
    w.tell(at - now, Actor::Node(n), life, Msg::Agent(Box::new(event)));
}

/// SIGKILL to the process group, or the death of the parent: gone a moment later.
pub fn kill(w: &mut World, n: usize, pid: u32) {
    let delay = w.rng.range(2, 300);
    let Some(child) = w.nodes[n].children.get_mut(&pid) else { return };
    if !child.dying {
        child.dying = true;
        w.after(delay, Ev::ChildKilled { node: n, pid });
    }
}

pub fn killed(w: &mut World, n: usize, pid: u32) {
    gone(w, n, pid, ChildExit::Signal(9), vec![]);
}

/// Asked to stop: a checkpoint, then the end; one in four children is deaf.
pub fn asked_to_stop(w: &mut World, n: usize, run: RunId) {
    let Some(pid) = super::machine::child_of(w, n, run) else { return };
    let (deaf, delay) = (w.rng.chance(250), w.rng.range(100, 9_000));
    let Some(child) = w.nodes[n].children.get_mut(&pid) else { return };
    if deaf || child.dying {
        return;
    }
    let checkpoint = FromTrainer::Checkpoint { dir: "ckpt/last".into(), model: "gat".into(), epoch: 1 };
    child.script = VecDeque::from([
        (delay, Act::Say(checkpoint)),
        (10, Act::Say(FromTrainer::Yielded)),
        (100, Act::Exit(ChildExit::Code(exit_code::YIELDED), vec![])),
    ]);
}

fn gone(w: &mut World, n: usize, pid: u32, exit: ChildExit, missing: Vec<String>) {
    let run = match w.nodes[n].children.get(&pid) {
        Some(child) => child.run,
        None => return,
    };
    w.trace(|| format!("child {pid} of {run} on {n} is gone: {exit}"));
    if w.nodes[n].children[&pid].life == w.nodes[n].life {
        audit::outlived(w, n, pid);
        w.nodes[n].ends_on_their_way.insert(run);
        hear(w, n, pid, Event::Exited { run, exit, stderr_tail: String::new(), missing });
    }
    let lingers = w.now + w.rng.range(0, 1_000);
    let Some(child) = w.nodes[n].children.remove(&pid) else { return };
    if let Some(device) = w.nodes[n].devices.iter_mut().find(|d| d.id == child.device) {
        device.ghosts.push(Ghost { pid, used_mib: child.used_mib, until: lingers });
    }
}

/// Marks children whose slot is not their own any more.
pub fn slot_moved(w: &mut World, key: &JobKey, after: &common::slot::Slot) {
    let now = w.now;
    for node in &mut w.nodes {
        let id = node.id.clone();
        for child in node.children.values_mut().filter(|c| c.run.key == *key) {
            let ours = after.attempt == child.run.attempt
                && matches!(&after.state, SlotState::Held { place, incarnation, .. }
                    if place.node == id && incarnation.0 == u64::from(child.life));
            child.lost_at = if ours { None } else { child.lost_at.or(Some(now)) };
        }
    }
}
