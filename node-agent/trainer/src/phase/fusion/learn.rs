//! The episodes: draw states, choose, earn, remember, learn; validate now and then and keep the best.
//!
//! The caller drives: `while !learner.finished() { learner.run_episode()?; ... }`. Between two episodes it
//! may report, save a snapshot, or stop.
//!
//! Randomness: torch's generator is seeded anew at the start of each episode from (seed, episode). A
//! snapshot therefore needs no generator state, and a resumed run goes on bit for bit on the CPU
//! (`tests/fusion_resume.rs` holds it to that in a process of its own, for the generator is global).

use std::collections::BTreeMap;

use common::config::semantic::FusionSemantic;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::FusionError;
use super::agent::{Agent, alphas_of, choose_greedily};
use super::replay::{Replay, Transitions};
use super::scaling::States;
use crate::checkpoint::{Loaded, Snapshot};
use crate::fit::seed::seed_torch;
use crate::metrics::{ByTruth, Confusion, auc, choose_threshold};
use crate::nn::qnet::QNet;
use crate::objective::reward::{ClassWeights, fused_logit, fused_score, reward};
use crate::phase::score::host;

/// A validation counts as better when F1 rises by this, or stays and the earnings rise by [`REWARD_STEP`].
const F1_STEP: f64 = 1e-6;
const REWARD_STEP: f64 = 0.01;

/// How well the greedy agent does on validation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// At the threshold chosen on the same states; None without attacks there.
    pub f1: Option<f64>,
    pub auc: Option<f64>,
    /// Class-balanced mean reward.
    pub reward: f64,
    pub mean_alpha: f64,
}

impl Validation {
    fn beats(&self, other: &Self) -> bool {
        let (f1, old) = (self.f1.unwrap_or(0.0), other.f1.unwrap_or(0.0));
        f1 > old + F1_STEP || (f1 >= old - F1_STEP && self.reward > other.reward + REWARD_STEP)
    }
}

/// News of one episode, counted from 1.
#[derive(Debug, Clone, Copy)]
pub struct EpisodeNews {
    pub episode: u32,
    pub epsilon: f64,
    pub mean_loss: f64,
    /// Mean reward of the episode's choices, random ones included.
    pub mean_reward: f64,
    /// Where this episode ended with a validation.
    pub validation: Option<Validation>,
}

/// What a snapshot keeps beside its tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FusionProgress {
    pub episodes_done: u32,
    pub best: Option<(u32, Validation)>,
    pub flat_validations: u32,
    /// Training states of the run; a resume over others is refused, for replay speaks of them by number.
    pub train_states: i64,
}

pub struct Learner<'a> {
    config: &'a FusionSemantic,
    train: &'a States,
    val: &'a States,
    train_labels: Tensor,
    /// Attack probability and anomaly score of the training states, f32 `[n]` each.
    train_scores: [Tensor; 2],
    /// Rows of each class, i64; the classes that are there.
    classes: Vec<Tensor>,
    agent: Agent,
    replay: Replay,
    progress: FusionProgress,
    best_weights: QNet,
}

impl<'a> Learner<'a> {
    /// # Errors
    /// `NoStates` when either side is empty.
    pub fn new(config: &'a FusionSemantic, train: &'a States, val: &'a States) -> Result<Self, FusionError> {
        for (states, name) in [(train, "training"), (val, "validation")] {
            if states.is_empty() {
                return Err(FusionError::NoStates(name));
            }
        }
        let device = train.x.device();
        seed_torch(config.seed, "dqn.init", &[]);
        let agent = Agent::new(config, device)?;
        let mut best_weights = QNet::new(&config.arch, device);
        best_weights.store.copy(&agent.online.store)?;
        best_weights.store.freeze();
        let train_labels = train.label_tensor();
        let classes = [0.0, 1.0]
            .iter()
            .map(|&class| train_labels.eq(class).nonzero().view([-1]))
            .filter(|rows| rows.size()[0] > 0)
            .collect();
        let replay = Replay::new(i64::from(config.replay_size), device)?;
        let progress =
            FusionProgress { episodes_done: 0, best: None, flat_validations: 0, train_states: train.len() };
        let train_scores = [train.gat(), train.anomaly()];
        Ok(Self {
            config,
            train,
            val,
            train_labels,
            train_scores,
            classes,
            agent,
            replay,
            progress,
            best_weights,
        })
    }

    /// All episodes done, or `patience` validations in a row without a better one.
    pub fn finished(&self) -> bool {
        let patience = self.config.patience;
        self.progress.episodes_done >= self.config.episodes
            || (patience > 0 && self.progress.flat_validations >= patience)
    }

    pub fn progress(&self) -> &FusionProgress {
        &self.progress
    }

    /// The network of the best validation so far (the fresh one before the first).
    pub fn into_best(self) -> QNet {
        self.best_weights
    }

    /// `max(end, start · decay^(episode-1))`.
    fn epsilon(&self, episode: u32) -> f64 {
        let decayed = self.config.epsilon_start * self.config.epsilon_decay.powf(f64::from(episode - 1));
        decayed.max(self.config.epsilon_end)
    }

    /// One episode: `samples_per_episode` choices in one pass, then `gradient_steps_per_episode` steps on
    /// draws from the replay.
    ///
    /// # Errors
    /// `Diverged` when the mean loss is not finite.
    pub fn run_episode(&mut self) -> Result<EpisodeNews, FusionError> {
        let episode = self.progress.episodes_done + 1;
        seed_torch(self.config.seed, "dqn.episode", &[u64::from(episode)]);
        let epsilon = self.epsilon(episode);
        let mean_reward = self.act(epsilon)?;
        let mean_loss = self.learn()?;
        if !mean_loss.is_finite() {
            return Err(FusionError::Diverged { episode, loss: mean_loss });
        }
        self.progress.episodes_done = episode;
        let due = episode.is_multiple_of(self.config.validate_every_episodes.max(1));
        let validation =
            if due || episode == self.config.episodes { Some(self.validate(episode)?) } else { None };
        Ok(EpisodeNews { episode, epsilon, mean_loss, mean_reward, validation })
    }

    fn act(&mut self, epsilon: f64) -> Result<f64, FusionError> {
        let rows = self.draw(i64::from(self.config.samples_per_episode.max(1)))?;
        let pick = |from: &Tensor| from.f_index_select(0, &rows);
        let action = self.agent.choose(&self.train.x, &rows, epsilon)?;
        let alpha = alphas_of(&action, self.config.arch.actions);
        let (gat, anomaly) = (pick(&self.train_scores[0])?, pick(&self.train_scores[1])?);
        let fused = fused_score(&gat, &anomaly, &alpha);
        let earned = reward(&fused, &pick(&self.train_labels)?);
        let mean = earned.f_mean(Kind::Double)?.f_double_value(&[])?;
        self.replay.push(&Transitions { state: rows, action, reward: earned })?;
        Ok(mean)
    }

    /// Rows of training states, each class equally often whatever its share: the rarer class counts as much
    /// as the other (this is what [`ClassWeights`] does to a mean, without its huge weights).
    fn draw(&self, count: i64) -> Result<Tensor, FusionError> {
        let classes = self.classes.len() as i64;
        let mut parts = Vec::new();
        for (k, rows) in (0i64..).zip(&self.classes) {
            let share = count / classes + i64::from(k < count % classes);
            let places = Tensor::f_randint(rows.size()[0], [share], (Kind::Int64, rows.device()))?;
            parts.push(rows.f_index_select(0, &places)?);
        }
        Ok(Tensor::f_cat(&parts, 0)?)
    }

    fn learn(&mut self) -> Result<f64, FusionError> {
        let mut losses = Vec::new();
        for _ in 0..self.config.gradient_steps_per_episode.max(1) {
            let drawn = self.replay.sample(i64::from(self.config.batch_size.max(1)))?;
            let states = self.train.x.f_index_select(0, &drawn.state)?;
            losses.push(self.agent.learn(&states, &drawn)?);
        }
        // Read once an episode: each reading waits for the device.
        Ok(Tensor::f_stack(&losses, 0)?.f_mean(Kind::Double)?.f_double_value(&[])?)
    }

    fn validate(&mut self, episode: u32) -> Result<Validation, FusionError> {
        let alpha = fusion_weights(&self.agent.online, self.val)?;
        let fused = fused_score(&self.val.gat(), &self.val.anomaly(), &alpha);
        let labels = self.val.label_tensor();
        let weights = ClassWeights::balanced(self.val.attack_share());
        let scores = host(&fused_logit(&self.val.gat_margin, &self.val.anomaly_margin, &alpha))?;
        let known = ByTruth::of(&scores, &self.val.truth)?;
        let scored = known.scored()?;
        let (f1, auc) = if scored.is_empty() {
            (None, None)
        } else {
            let threshold = choose_threshold(&scored, (&self.config.threshold).into())?;
            (Confusion::at(&scored, threshold.value).f1(), auc(&scored))
        };
        let validation = Validation {
            f1,
            auc,
            reward: weights.mean(&reward(&fused, &labels), &labels).f_double_value(&[])?,
            mean_alpha: alpha.f_mean(Kind::Double)?.f_double_value(&[])?,
        };
        if self.progress.best.is_none_or(|(_, best)| validation.beats(&best)) {
            self.progress.best = Some((episode, validation));
            self.progress.flat_validations = 0;
            self.best_weights.store.copy(&self.agent.online.store)?;
        } else {
            self.progress.flat_validations += 1;
        }
        Ok(validation)
    }

    /// Everything a resumed run needs; shallow, so write it before the next episode.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot<FusionProgress> {
        let mut tensors = self.agent.optimiser.state();
        tensors.extend(self.replay.tensors());
        for (prefix, net) in self.networks() {
            tensors.extend(net.store.variables().into_iter().map(|(name, t)| (format!("{prefix}{name}"), t)));
        }
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        Snapshot { header: self.progress.clone(), tensors }
    }

    /// Goes on from a snapshot of the same configuration and states.
    ///
    /// # Errors
    /// `Resume` naming what does not fit; start afresh then, the learner may be half changed.
    pub fn restore(&mut self, loaded: &Loaded<FusionProgress>) -> Result<(), FusionError> {
        if loaded.header.train_states != self.train.len() {
            return Err(FusionError::Resume(format!(
                "it was trained on {} states, here are {}",
                loaded.header.train_states,
                self.train.len()
            )));
        }
        let find = |name: &str| {
            loaded.tensors.get(name).ok_or_else(|| FusionError::Resume(format!("`{name}` is missing")))
        };
        let _guard = tch::no_grad_guard();
        for (prefix, net) in self.networks() {
            let variables: BTreeMap<String, Tensor> = net.store.variables().into_iter().collect();
            for (name, mut variable) in variables {
                let saved = find(&format!("{prefix}{name}"))?;
                if saved.size() != variable.size() {
                    return Err(FusionError::Resume(format!("`{prefix}{name}` is {:?}", saved.size())));
                }
                variable.f_copy_(saved)?;
            }
        }
        self.replay.restore(find)?;
        self.agent.optimiser.load_state(&loaded.tensors)?;
        self.progress = loaded.header.clone();
        Ok(())
    }

    fn networks(&self) -> [(&'static str, &QNet); 3] {
        [("online.", &self.agent.online), ("target.", &self.agent.target), ("best.", &self.best_weights)]
    }
}

/// The weight α chosen for each state, f32 `[n]`.
pub fn fusion_weights(net: &QNet, states: &States) -> Result<Tensor, FusionError> {
    Ok(alphas_of(&choose_greedily(net, &states.x)?, net.arch.actions))
}

/// Logit of the fused score of each state, f64 `[n]`.
pub fn fused_scores(net: &QNet, states: &States) -> Result<Tensor, FusionError> {
    Ok(fused_logit(&states.gat_margin, &states.anomaly_margin, &fusion_weights(net, states)?))
}

#[cfg(test)]
mod tests;
