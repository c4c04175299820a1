//! The double-DQN agent (Mnih et al. 2015, van Hasselt et al. 2016): vectorised choice and learning.

use common::config::semantic::FusionSemantic;
use tch::{Device, Kind, Reduction, Tensor, no_grad_guard};

use super::FusionError;
use super::replay::Transitions;
use crate::nn::qnet::QNet;
use crate::optim::{Adam, AdamConfig, WeightDecay};

/// States looked at in one pass when choosing greedily: the activations of so many stay in the cache.
const CHOICE_BATCH: i64 = 1_024;
/// Where the Huber loss turns from square to linear.
const HUBER_DELTA: f64 = 1.0;

pub struct Agent {
    pub online: QNet,
    pub target: QNet,
    pub optimiser: Adam,
    gamma: f64,
    grad_clip: f64,
    target_copy_steps: i64,
}

impl Agent {
    /// Both networks with equal fresh weights from torch's global generator.
    pub fn new(config: &FusionSemantic, device: Device) -> Result<Self, FusionError> {
        let online = QNet::new(&config.arch, device);
        let mut target = QNet::new(&config.arch, device);
        target.store.copy(&online.store)?;
        target.store.freeze();
        let adam = AdamConfig::new(config.lr, WeightDecay::Decoupled(config.weight_decay));
        let optimiser = Adam::for_store(&online.store, adam)?;
        Ok(Self {
            online,
            target,
            optimiser,
            gamma: config.gamma,
            grad_clip: config.grad_clip,
            target_copy_steps: i64::from(config.target_copy_steps.max(1)),
        })
    }

    /// One action for each of `rows` of `states`: random with probability `epsilon`, else the best of the online
    /// network. `[n, 15]` and i64 `[B]` to i64 `[B]`.
    ///
    /// The network does not change meanwhile, so a state that was drawn several times is looked at once, and one
    /// whose every draw explores not at all.
    pub fn choose(&self, states: &Tensor, rows: &Tensor, epsilon: f64) -> Result<Tensor, FusionError> {
        if epsilon <= 0.0 {
            return self.choose_distinct(states, rows);
        }
        let (n, device) = (rows.size()[0], rows.device());
        let random = Tensor::f_randint(i64::from(self.online.arch.actions), [n], (Kind::Int64, device))?;
        let explore = Tensor::f_rand([n], (Kind::Float, device))?.f_lt(epsilon)?;
        let exploits = explore.f_logical_not()?;
        let greedy = self.choose_distinct(states, &rows.f_masked_select(&exploits)?)?;
        Ok(random.f_masked_scatter(&exploits, &greedy)?)
    }

    fn choose_distinct(&self, states: &Tensor, rows: &Tensor) -> Result<Tensor, FusionError> {
        let (distinct, place) = rows.f_internal_unique(true, true)?;
        Ok(choose_greedily(&self.online, &states.f_index_select(0, &distinct)?)?.f_index_select(0, &place)?)
    }

    /// One gradient step on transitions whose next state is the state itself; copies the online network into
    /// the target every `target_copy_steps`. `states` are the rows the transitions speak of, `[B, 15]`.
    /// Returns the loss (0-d, on the device).
    pub fn learn(&mut self, states: &Tensor, transitions: &Transitions) -> Result<Tensor, FusionError> {
        let goal = self.goal(states, &transitions.reward)?;
        let action = transitions.action.f_unsqueeze(1)?;
        let value = self.online.forward(states, true).f_gather(1, &action, false)?.f_squeeze_dim(1)?;
        let loss = value.f_huber_loss(&goal, Reduction::Mean, HUBER_DELTA)?;
        self.optimiser.zero_grad();
        loss.f_backward()?;
        self.optimiser.clip_grad_norm(self.grad_clip)?;
        self.optimiser.step()?;
        if self.optimiser.steps_done() % self.target_copy_steps == 0 {
            self.target.store.copy(&self.online.store)?;
        }
        Ok(loss.f_detach()?)
    }

    /// Double DQN: `r + γ · Q_target(s, argmax_a Q_online(s, a))`, f32 `[B]`.
    fn goal(&self, states: &Tensor, reward: &Tensor) -> Result<Tensor, FusionError> {
        if self.gamma == 0.0 {
            return Ok(reward.shallow_clone());
        }
        let _guard = no_grad_guard();
        let best = self.online.forward(states, false).f_argmax(1, true)?;
        let ahead = self.target.forward(states, false).f_gather(1, &best, false)?.f_squeeze_dim(1)?;
        Ok(ahead.f_mul_scalar(self.gamma)?.f_add(reward)?)
    }
}

/// The best action of each state, `[n, 15]` to i64 `[n]`, in bounded memory.
pub fn choose_greedily(net: &QNet, states: &Tensor) -> Result<Tensor, FusionError> {
    let _guard = no_grad_guard();
    let n = states.size()[0];
    let mut parts = Vec::new();
    let mut start = 0;
    while start < n {
        let len = CHOICE_BATCH.min(n - start);
        parts.push(net.forward(&states.f_narrow(0, start, len)?, false).f_argmax(1, false)?);
        start += len;
    }
    if parts.is_empty() {
        return Ok(Tensor::f_zeros([0], (Kind::Int64, states.device()))?);
    }
    Ok(Tensor::f_cat(&parts, 0)?)
}

/// Weights α that actions stand for: evenly spaced over [0, 1], the last is the GAT alone.
pub fn alphas_of(actions: &Tensor, action_count: u32) -> Tensor {
    // One action alone would divide by nothing: it then means "the VGAE".
    actions.to_kind(Kind::Float) / f64::from((action_count.max(2)) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::config::semantic::DqnArch;

    fn config() -> FusionSemantic {
        FusionSemantic {
            arch: DqnArch { layers: 1, hidden: 16, actions: 5, dropout: 0.0 },
            lr: 0.01,
            gamma: 0.5,
            target_copy_steps: 4,
            ..Default::default()
        }
    }

    fn states(n: i64) -> Tensor {
        Tensor::randn([n, 15], (Kind::Float, Device::Cpu))
    }

    #[test]
    fn epsilon_is_the_share_of_random_choices() {
        tch::manual_seed(2);
        let agent = Agent::new(&config(), Device::Cpu).unwrap();
        let x = states(1_000);
        let rows = Tensor::randint(1_000, [4_000], (Kind::Int64, Device::Cpu));
        let greedy = agent.choose(&x, &rows, 0.0).unwrap();
        let each = agent.online.forward(&x, false).argmax(1, false);
        assert_eq!(greedy, each.index_select(0, &rows));
        for epsilon in [0.25, 1.0] {
            let moved = agent.choose(&x, &rows, epsilon).unwrap().ne_tensor(&greedy).to_kind(Kind::Float);
            let share = f64::try_from(moved.mean(Kind::Double)).unwrap();
            // a fifth of the random choices hits the greedy action
            assert!((share - epsilon * 0.8).abs() < 0.03, "{epsilon}: {share}");
        }
    }

    #[test]
    fn greedy_choice_is_the_same_in_one_pass_or_in_many() {
        tch::manual_seed(2);
        let agent = Agent::new(&config(), Device::Cpu).unwrap();
        let x = states(CHOICE_BATCH + 100);
        let whole = agent.online.forward(&x, false).argmax(1, false);
        assert_eq!(choose_greedily(&agent.online, &x).unwrap(), whole);
        assert_eq!(choose_greedily(&agent.online, &x.narrow(0, 0, 0)).unwrap().size(), [0]);
    }

    #[test]
    fn the_goal_takes_the_online_choice_at_the_targets_price() {
        tch::manual_seed(3);
        let agent = Agent::new(&config(), Device::Cpu).unwrap();
        let _guard = no_grad_guard();
        // make the two networks disagree
        for mut variable in agent.target.store.variables().into_values() {
            let _ = variable.g_add_(&(variable.randn_like() * 0.3));
        }
        let x = states(6);
        let reward = Tensor::from_slice(&[1f32, -1.0, 0.0, 2.0, 3.0, -3.0]);
        let goal: Vec<f32> = Vec::try_from(&agent.goal(&x, &reward).unwrap()).unwrap();
        let best: Vec<i64> = Vec::try_from(&agent.online.forward(&x, false).argmax(1, false)).unwrap();
        let price = agent.target.forward(&x, false);
        for i in 0..6 {
            let expected = reward.double_value(&[i]) + 0.5 * price.double_value(&[i, best[i as usize]]);
            assert!((f64::from(goal[i as usize]) - expected).abs() < 1e-6);
        }
    }

    #[test]
    fn the_target_follows_every_so_many_steps_and_is_never_trained() {
        tch::manual_seed(4);
        let mut agent = Agent::new(&config(), Device::Cpu).unwrap();
        let x = states(32);
        let transitions = Transitions {
            state: Tensor::arange(32, (Kind::Int64, Device::Cpu)),
            action: Tensor::zeros([32], (Kind::Int64, Device::Cpu)),
            reward: Tensor::ones([32], (Kind::Float, Device::Cpu)),
        };
        let gap = |agent: &Agent| -> f64 {
            let d = agent.online.forward(&x, false) - agent.target.forward(&x, false);
            f64::try_from(d.abs().max()).unwrap()
        };
        let mut gaps = Vec::new();
        for _ in 0..8 {
            let _ = agent.learn(&x, &transitions).unwrap();
            gaps.push(gap(&agent));
        }
        let followed: Vec<bool> = gaps.iter().map(|g| *g == 0.0).collect();
        assert_eq!(followed, [false, false, false, true, false, false, false, true]);
    }

    #[test]
    fn actions_stand_for_evenly_spaced_weights() {
        let alphas = alphas_of(&Tensor::from_slice(&[0i64, 10, 20]), 21);
        assert_eq!(Vec::<f32>::try_from(&alphas).unwrap(), [0.0, 0.5, 1.0]);
    }
}
