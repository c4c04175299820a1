//! Adam (Kingma & Ba 2015) and AdamW (Loshchilov & Hutter 2019) as in `torch.optim`.

use std::collections::BTreeMap;

use tch::nn::VarStore;
use tch::{Device, TchError, Tensor, no_grad_guard};
use thiserror::Error;

use crate::nn::fused::{self, AdamStep};

/// Prefix of the names of saved optimiser tensors.
const STATE_PREFIX: &str = "optim.";

#[derive(Debug, Error)]
pub enum OptimError {
    #[error("the saved optimiser state lacks `{0}`: it belongs to another model or version; start afresh")]
    Missing(String),
    #[error("saved optimiser tensor `{name}` has shape {found:?}, the model wants {expected:?}")]
    Shape { name: String, found: Vec<i64>, expected: Vec<i64> },
    #[error(transparent)]
    Torch(#[from] TchError),
}

/// How weights are pulled towards zero.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum WeightDecay {
    /// Added to the gradient before the moments (torch's `Adam(weight_decay=..)`).
    L2(f64),
    /// Applied to the weight itself, scaled by the learning rate (torch's `AdamW`).
    Decoupled(f64),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamConfig {
    pub lr: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub decay: WeightDecay,
}

impl AdamConfig {
    /// torch's defaults: betas (0.9, 0.999), eps 1e-8.
    pub fn new(lr: f64, decay: WeightDecay) -> Self {
        Self { lr, beta1: 0.9, beta2: 0.999, eps: 1e-8, decay }
    }
}

/// One trained tensor with its running moments, all of the same shape, kind and device.
struct Slot {
    name: String,
    weight: Tensor,
    first_moment: Tensor,
    second_moment: Tensor,
}

/// Adam over named tensors. Weights change in place, without being recorded by autograd.
pub struct Adam {
    config: AdamConfig,
    slots: Vec<Slot>,
    steps_done: i64,
}

impl Adam {
    /// Over the trainable variables of `store`, in the order of their names.
    pub fn for_store(store: &VarStore, config: AdamConfig) -> Result<Self, OptimError> {
        let variables: BTreeMap<String, Tensor> = store.variables().into_iter().collect();
        Self::new(variables.into_iter().filter(|(_, v)| v.requires_grad()), config)
    }

    /// Over tensors given by name; names must be unique, for the state is saved by them.
    pub fn new(
        weights: impl IntoIterator<Item = (String, Tensor)>,
        config: AdamConfig,
    ) -> Result<Self, OptimError> {
        let _guard = no_grad_guard();
        let mut slots = Vec::new();
        for (name, weight) in weights {
            let first_moment = weight.f_zeros_like()?;
            let second_moment = weight.f_zeros_like()?;
            slots.push(Slot { name, weight, first_moment, second_moment });
        }
        Ok(Self { config, slots, steps_done: 0 })
    }

    pub fn lr(&self) -> f64 {
        self.config.lr
    }

    pub fn set_lr(&mut self, lr: f64) {
        self.config.lr = lr;
    }

    pub fn steps_done(&self) -> i64 {
        self.steps_done
    }

    /// The trained tensors (shallow: they share storage with the model).
    pub fn weights(&self) -> impl Iterator<Item = &Tensor> {
        self.slots.iter().map(|slot| &slot.weight)
    }

    /// Sets every gradient to zero where one was computed.
    pub fn zero_grad(&mut self) {
        for slot in &mut self.slots {
            slot.weight.zero_grad();
        }
    }

    /// Clips by the global norm (0 or less = no clipping), returning the norm before; see
    /// [`super::clip_grad_norm`].
    pub fn clip_grad_norm(&self, max_norm: f64) -> Result<Option<Tensor>, OptimError> {
        if max_norm <= 0.0 {
            return Ok(None);
        }
        Ok(Some(super::clip_grad_norm(self.weights(), max_norm)?))
    }

    /// One update from the gradients at hand; a weight without a gradient is left alone.
    ///
    /// # Errors
    /// Whatever libtorch reports. A failure in the middle (out of memory) leaves some weights updated:
    /// go back to the last checkpoint, or accept one mixed step.
    pub fn step(&mut self) -> Result<(), OptimError> {
        let _guard = no_grad_guard();
        self.steps_done += 1;
        let config = self.config;
        if self.slots.iter().all(|slot| slot.weight.device() == Device::Cpu) && fused::available() {
            return self.step_fused();
        }
        let steps = self.steps_done as i32;
        let bias1 = 1.0 - config.beta1.powi(steps);
        let bias2_root = (1.0 - config.beta2.powi(steps)).sqrt();
        for slot in &mut self.slots {
            let grad = slot.weight.f_grad()?;
            if grad.defined() {
                slot.update(&grad, &config, bias1, bias2_root)?;
            }
        }
        Ok(())
    }

    /// The same update in one pass over each tensor.
    fn step_fused(&mut self) -> Result<(), OptimError> {
        let config = self.config;
        let (decay, decoupled) = match config.decay {
            WeightDecay::L2(decay) => (decay, false),
            WeightDecay::Decoupled(decay) => (decay, true),
        };
        let betas = (config.beta1, config.beta2);
        let by = AdamStep { step: self.steps_done, lr: config.lr, betas, eps: config.eps, decay, decoupled };
        let grads = self.slots.iter().map(|slot| slot.weight.f_grad()).collect::<Result<Vec<_>, _>>()?;
        let slots = self.slots.iter().zip(&grads).filter(|(_, grad)| grad.defined());
        let slots: Vec<_> =
            slots.map(|(slot, grad)| [&slot.weight, grad, &slot.first_moment, &slot.second_moment]).collect();
        Ok(fused::adam_step(&slots, &by)?)
    }

    /// State by name: `optim.step` (i64 scalar), `optim.<weight>.exp_avg`, `optim.<weight>.exp_avg_sq`.
    /// Shallow: copy or write it before the next step.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = vec![(format!("{STATE_PREFIX}step"), Tensor::from(self.steps_done))];
        for slot in &self.slots {
            state.push((slot.first_name(), slot.first_moment.shallow_clone()));
            state.push((slot.second_name(), slot.second_moment.shallow_clone()));
        }
        state
    }

    /// Restores what [`Adam::state`] gave; further tensors in `saved` are not looked at.
    ///
    /// # Errors
    /// `Missing` or `Shape`, before anything was changed.
    pub fn load_state(&mut self, saved: &BTreeMap<String, Tensor>) -> Result<(), OptimError> {
        let find = |name: String, expected: &Tensor| -> Result<&Tensor, OptimError> {
            let tensor = saved.get(&name).ok_or_else(|| OptimError::Missing(name.clone()))?;
            if tensor.size() != expected.size() {
                return Err(OptimError::Shape { name, found: tensor.size(), expected: expected.size() });
            }
            Ok(tensor)
        };
        let steps = find(format!("{STATE_PREFIX}step"), &Tensor::from(0i64))?.int64_value(&[]);
        let mut found = Vec::with_capacity(self.slots.len());
        for slot in &self.slots {
            let first = find(slot.first_name(), &slot.first_moment)?;
            found.push((first, find(slot.second_name(), &slot.second_moment)?));
        }
        let _guard = no_grad_guard();
        for (slot, (first, second)) in self.slots.iter_mut().zip(found) {
            slot.first_moment.f_copy_(first)?;
            slot.second_moment.f_copy_(second)?;
        }
        self.steps_done = steps;
        Ok(())
    }
}

impl Slot {
    fn first_name(&self) -> String {
        format!("{STATE_PREFIX}{}.exp_avg", self.name)
    }

    fn second_name(&self) -> String {
        format!("{STATE_PREFIX}{}.exp_avg_sq", self.name)
    }

    /// m <- b1·m + (1-b1)·g; v <- b2·v + (1-b2)·g²; w <- w - lr/bias1 · m / (√v/√bias2 + eps).
    fn update(
        &mut self,
        grad: &Tensor,
        config: &AdamConfig,
        bias1: f64,
        bias2_root: f64,
    ) -> Result<(), OptimError> {
        let decayed;
        let grad = match config.decay {
            WeightDecay::L2(decay) if decay != 0.0 => {
                decayed = grad.f_add(&self.weight.f_mul_scalar(decay)?)?;
                &decayed
            }
            WeightDecay::Decoupled(decay) => {
                if decay != 0.0 {
                    let _ = self.weight.f_mul_scalar_(1.0 - config.lr * decay)?;
                }
                grad
            }
            WeightDecay::L2(_) => grad,
        };
        let _ = self.first_moment.f_lerp_(grad, 1.0 - config.beta1)?;
        let _ = self.second_moment.f_mul_scalar_(config.beta2)?;
        let scaled = grad.f_mul_scalar(1.0 - config.beta2)?;
        let _ = self.second_moment.f_addcmul_(grad, &scaled)?;
        let mut denominator = self.second_moment.f_sqrt()?;
        let _ = denominator.f_div_scalar_(bias2_root)?.f_add_scalar_(config.eps)?;
        let numerator = self.first_moment.f_mul_scalar(-config.lr / bias1)?;
        let _ = self.weight.f_addcdiv_(&numerator, &denominator)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    fn weight(values: &[f32]) -> Tensor {
        Tensor::from_slice(values).set_requires_grad(true)
    }

    fn values(tensor: &Tensor) -> Vec<f64> {
        Vec::try_from(&tensor.detach().to_kind(Kind::Double)).unwrap()
    }

    /// The published recurrence in f64 on one scalar, gradient = weight (loss w²/2).
    fn by_hand(mut w: f64, config: &AdamConfig, steps: i32) -> f64 {
        let (mut m, mut v) = (0.0, 0.0);
        for t in 1..=steps {
            let mut g = w;
            match config.decay {
                WeightDecay::L2(d) => g += d * w,
                WeightDecay::Decoupled(d) => w -= config.lr * d * w,
            }
            m = config.beta1 * m + (1.0 - config.beta1) * g;
            v = config.beta2 * v + (1.0 - config.beta2) * g * g;
            let m_hat = m / (1.0 - config.beta1.powi(t));
            let v_hat = v / (1.0 - config.beta2.powi(t));
            w -= config.lr * m_hat / (v_hat.sqrt() + config.eps);
        }
        w
    }

    fn run(w: &Tensor, adam: &mut Adam, steps: usize) {
        for _ in 0..steps {
            adam.zero_grad();
            (w * w * 0.5).sum(Kind::Float).backward();
            adam.step().unwrap();
        }
    }

    #[test]
    fn both_decays_follow_the_published_recurrence() {
        for decay in [WeightDecay::L2(0.1), WeightDecay::Decoupled(0.1), WeightDecay::L2(0.0)] {
            let config = AdamConfig::new(0.05, decay);
            let w = weight(&[1.5, -0.7]);
            let mut adam = Adam::new([("w".into(), w.shallow_clone())], config).unwrap();
            run(&w, &mut adam, 7);
            for (got, start) in values(&w).into_iter().zip([1.5, -0.7]) {
                let expected = by_hand(start, &config, 7);
                assert!((got - expected).abs() < 1e-6, "{decay:?}: {got} != {expected}");
            }
        }
    }

    #[test]
    fn the_first_step_has_the_size_of_the_learning_rate() {
        // m/bias1 = g and sqrt(v)/sqrt(bias2) = |g|, whatever the gradient's size.
        let w = weight(&[1000.0, -0.001]);
        let config = AdamConfig::new(0.1, WeightDecay::L2(0.0));
        let mut adam = Adam::new([("w".into(), w.shallow_clone())], config).unwrap();
        run(&w, &mut adam, 1);
        let got = values(&w);
        assert!((got[0] - 999.9).abs() < 1e-3 && (got[1] - 0.099).abs() < 1e-5, "{got:?}");
    }

    #[test]
    fn equals_the_optimiser_of_tch() {
        use tch::nn::{self, Module, OptimizerConfig};
        let train = |own: bool| -> Vec<f64> {
            let store = VarStore::new(Device::Cpu);
            let mut net = nn::linear(store.root(), 3, 2, Default::default());
            // Fixed weights: torch's generator is shared with the tests of other threads.
            let fixed = Tensor::arange(6, (Kind::Float, Device::Cpu)).view([2, 3]) / 7.0 - 0.4;
            tch::no_grad(|| net.ws.copy_(&fixed));
            tch::no_grad(|| net.bs.as_mut().unwrap().copy_(&fixed.select(1, 0)));
            let x = Tensor::arange(12, (Kind::Float, Device::Cpu)).view([4, 3]) / 12.0;
            let config = AdamConfig::new(0.01, WeightDecay::Decoupled(0.05));
            let mut adam = Adam::for_store(&store, config).unwrap();
            let mut theirs = nn::AdamW { wd: 0.05, ..Default::default() }.build(&store, 0.01).unwrap();
            for _ in 0..5 {
                let loss = (net.forward(&x) - 1.0).square().mean(Kind::Float);
                if own {
                    adam.zero_grad();
                    loss.backward();
                    adam.step().unwrap();
                } else {
                    theirs.backward_step(&loss);
                }
            }
            values(&net.ws.view([-1]))
        };
        for (a, b) in train(true).into_iter().zip(train(false)) {
            assert!((a - b).abs() < 1e-6, "{a} != {b}");
        }
    }

    #[test]
    fn a_restored_state_goes_on_bit_for_bit() {
        let config = AdamConfig::new(0.02, WeightDecay::Decoupled(0.01));
        let whole = weight(&[0.9, -2.0, 0.1]);
        let mut adam = Adam::new([("w".into(), whole.shallow_clone())], config).unwrap();
        run(&whole, &mut adam, 3);
        let saved: BTreeMap<String, Tensor> =
            adam.state().into_iter().map(|(name, t)| (name, t.copy())).collect();
        let resumed = whole.detach().copy().set_requires_grad(true);
        run(&whole, &mut adam, 4);
        let mut second = Adam::new([("w".into(), resumed.shallow_clone())], config).unwrap();
        second.load_state(&saved).unwrap();
        run(&resumed, &mut second, 4);
        assert_eq!(second.steps_done(), 7);
        assert_eq!(values(&whole), values(&resumed));
    }

    #[test]
    fn a_foreign_state_is_refused() {
        let config = AdamConfig::new(0.02, WeightDecay::L2(0.0));
        let adam = Adam::new([("w".into(), weight(&[1.0]))], config).unwrap();
        let saved: BTreeMap<String, Tensor> = adam.state().into_iter().collect();
        let mut renamed = Adam::new([("v".into(), weight(&[1.0]))], config).unwrap();
        assert!(matches!(renamed.load_state(&saved), Err(OptimError::Missing(n)) if n.contains("optim.v.")));
        let mut wider = Adam::new([("w".into(), weight(&[1.0, 2.0]))], config).unwrap();
        assert!(matches!(wider.load_state(&saved), Err(OptimError::Shape { .. })));
    }

    #[test]
    fn a_weight_without_gradient_stays() {
        let used = weight(&[1.0]);
        let unused = weight(&[3.0]);
        let config = AdamConfig::new(0.1, WeightDecay::Decoupled(0.5));
        let weights = [("a".into(), used.shallow_clone()), ("b".into(), unused.shallow_clone())];
        run(&used, &mut Adam::new(weights, config).unwrap(), 2);
        assert_eq!(values(&unused), vec![3.0]);
        assert_ne!(values(&used), vec![1.0]);
    }
}
