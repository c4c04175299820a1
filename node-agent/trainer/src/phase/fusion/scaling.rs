//! What is fitted on training states and travels with the model: how states are standardised, and the scale
//! of the anomaly score.

use common::config::semantic::NodeEncoding;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::FusionError;
use super::states::RawStates;
use crate::metrics::Truth;
use crate::phase::anomaly::AnomalyScale;

/// Standardised values are cut here: a capture of another vehicle must not throw the network into a region
/// it has never seen.
pub const STATE_LIMIT: f64 = 6.0;
/// The anomaly score in (0, 1) is one half where the weighted errors lie this many standard deviations above
/// their benign means: it is averaged with the GAT's probability, which is one half where that is undecided.
pub const ANOMALY_MIDPOINT: f64 = 3.0;
/// Columns that never move keep a finite scale.
const STD_MIN: f64 = 1e-6;

/// Means and standard deviations of training states.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scaling {
    /// Of each of the 15 columns over all training states.
    pub state_mean: Vec<f32>,
    pub state_std: Vec<f32>,
    /// Of the three reconstruction errors, over benign training states.
    pub anomaly: AnomalyScale,
}

/// Scaled states on the device, ready for the agent. `n` windows.
#[derive(Debug)]
pub struct States {
    /// Standardised, f32 `[n, 15]`.
    pub x: Tensor,
    /// What both detectors say, as logits, f32 `[n]` each: of the GAT's attack probability, and of the VGAE's
    /// anomaly score (deviations from benign less [`ANOMALY_MIDPOINT`]). Logits, because the probabilities
    /// themselves round to 1 and could not rank windows there.
    pub gat_margin: Tensor,
    pub anomaly_margin: Tensor,
    pub truth: Vec<Truth>,
}

impl States {
    pub fn len(&self) -> i64 {
        self.x.size()[0]
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Attack probability of the GAT, f32 `[n]`.
    pub fn gat(&self) -> Tensor {
        self.gat_margin.sigmoid()
    }

    /// Anomaly score of the VGAE in (0, 1), f32 `[n]`.
    pub fn anomaly(&self) -> Tensor {
        self.anomaly_margin.sigmoid()
    }

    /// Labels as f32 `[n]` beside the states; zeros where there are none.
    pub fn label_tensor(&self) -> Tensor {
        let labels: Vec<f32> = self.truth.iter().map(|truth| f32::from(truth.unwrap_or(0))).collect();
        Tensor::from_slice(&labels).to_device(self.x.device())
    }

    /// True if at least one window has a label.
    #[must_use]
    pub fn has_labels(&self) -> bool {
        self.truth.iter().any(Option::is_some)
    }

    /// Share of attacks among the labelled windows, 0 without one.
    #[must_use]
    pub fn attack_share(&self) -> f64 {
        let known = self.truth.iter().flatten().count();
        let attacks = self.truth.iter().flatten().filter(|&&label| label == 1).count();
        if known == 0 { 0.0 } else { attacks as f64 / known as f64 }
    }
}

impl Scaling {
    /// # Errors
    /// `NoStates` without a training state.
    pub fn fit(train: &RawStates) -> Result<Self, FusionError> {
        if train.is_empty() {
            return Err(FusionError::NoStates("training"));
        }
        let (state_mean, state_std) = mean_and_std(&train.rows)?;
        let anomaly = AnomalyScale::fit(&train.benign_errors());
        Ok(Self { state_mean, state_std, anomaly })
    }

    /// With the anomaly weights of graphs encoded so.
    #[must_use]
    pub fn for_encoding(mut self, encoding: NodeEncoding) -> Self {
        self.anomaly = self.anomaly.for_encoding(encoding);
        self
    }

    /// Scales states, on `device`.
    #[must_use]
    pub fn apply(&self, raw: &RawStates, device: Device) -> States {
        let on = |values: &[f32]| Tensor::from_slice(values).to_device(device);
        let rows = raw.rows.to_device(device);
        let x = ((&rows - on(&self.state_mean)) / on(&self.state_std)).clamp(-STATE_LIMIT, STATE_LIMIT);
        let deviations = Tensor::from_slice(&self.anomaly.scores(&raw.errors)).to_device(device);
        States {
            x,
            gat_margin: raw.margin.to_device(device),
            anomaly_margin: deviations - ANOMALY_MIDPOINT,
            truth: raw.truth.clone(),
        }
    }

    /// The same as named tensors, for the weight files.
    #[must_use]
    pub fn tensors(&self) -> Vec<(String, Tensor)> {
        let single = |values: &[f64]| Tensor::from_slice(values).to_kind(Kind::Float);
        vec![
            ("state_mean".to_string(), Tensor::from_slice(&self.state_mean)),
            ("state_std".to_string(), Tensor::from_slice(&self.state_std)),
            ("error_mean".to_string(), single(&self.anomaly.mean)),
            ("error_std".to_string(), single(&self.anomaly.std)),
        ]
    }
}

/// Per column, population standard deviation, at least [`STD_MIN`].
fn mean_and_std(rows: &Tensor) -> Result<(Vec<f32>, Vec<f32>), FusionError> {
    // Doubles: a column of large equal values must not get its rounding noise as scale.
    let rows = rows.to_kind(Kind::Double);
    let mean = rows.mean_dim(&[0i64][..], false, Kind::Double);
    let std = rows.std_dim(&[0i64][..], false, false).clamp_min(STD_MIN);
    let list = |t: &Tensor| Vec::<f32>::try_from(&t.to_kind(Kind::Float).to_device(Device::Cpu));
    Ok((list(&mean)?, list(&std)?))
}

#[cfg(test)]
mod tests {
    use super::super::states::testing::synthetic;
    use super::*;
    use crate::phase::fusion::states::ROW_WIDTH;

    #[test]
    fn training_states_come_out_standardised_and_scores_stay_in_range() {
        let raw = synthetic(2_000, 0.2, 3);
        let states = Scaling::fit(&raw).unwrap().apply(&raw, Device::Cpu);
        let mean = states.x.mean_dim(&[0i64][..], false, Kind::Float).abs().max();
        assert!(f64::try_from(mean).unwrap() < 0.1);
        assert!(f64::try_from(states.x.abs().max()).unwrap() <= STATE_LIMIT);
        assert!(f64::try_from(states.anomaly().max()).unwrap() <= 1.0);
        assert_eq!(states.attack_share(), 0.2);
    }

    #[test]
    fn the_anomaly_scale_comes_from_benign_windows() {
        let raw = synthetic(2_000, 0.3, 4);
        let states = Scaling::fit(&raw).unwrap().apply(&raw, Device::Cpu);
        let benign = states.anomaly().narrow(0, 600, 1_400);
        // a benign window lies around 0 deviations: sigmoid(-3) = 0.047
        let mean = f64::try_from(benign.mean(Kind::Double)).unwrap();
        assert!((0.03..0.08).contains(&mean), "{mean}");
    }

    #[test]
    fn constant_columns_and_a_single_state_stay_finite() {
        let rows = Tensor::full([1, ROW_WIDTH], 7.5, (Kind::Float, Device::Cpu));
        let raw = RawStates::new(&rows, vec![Some(1)]).unwrap();
        let states = Scaling::fit(&raw).unwrap().apply(&raw, Device::Cpu);
        assert_eq!(f64::try_from(states.x.abs().max()).unwrap(), 0.0);
        let none = Tensor::zeros([0, ROW_WIDTH], (Kind::Float, Device::Cpu));
        let empty = RawStates::new(&none, Vec::new()).unwrap();
        assert!(matches!(Scaling::fit(&empty), Err(FusionError::NoStates("training"))));
    }

    #[test]
    fn scaling_survives_json() {
        let scaling = Scaling::fit(&synthetic(100, 0.5, 1)).unwrap();
        let text = serde_json::to_string(&scaling).unwrap();
        assert_eq!(serde_json::from_str::<Scaling>(&text).unwrap(), scaling);
    }
}
