//! Windows to scores and decisions.

use serde::Serialize;
use tch::Device;

use super::model::ScoringModel;
use super::windows::Chunk;
use super::{ScoreError, all};
use crate::fit::Evaluator;
use crate::fit::listener::Silent;
use crate::fit::loader::Loader;
use crate::metrics::Truth;
use crate::phase::fusion::learn::fused_scores;
use crate::phase::fusion::states::{ROW_WIDTH, RawStates, state_rows};
use crate::phase::score::host;

/// What is said of one window. A detector calls it an attack iff its score is above its threshold.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WindowScore<'a> {
    pub capture: &'a str,
    /// Counted from 0 within the capture.
    pub window: u64,
    /// Times of the first and the last message, seconds as the capture gives them.
    pub start_s: f64,
    pub end_s: f64,
    /// The decision: the fusion's, else the GAT's.
    pub attack: bool,
    /// Logit of attack minus logit of benign.
    pub gat_score: f32,
    pub gat_attack: bool,
    /// Reconstruction errors in benign standard deviations.
    pub vgae_score: f32,
    pub vgae_attack: bool,
    /// Logit of the fused score.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fusion_score: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fusion_attack: Option<bool>,
    /// Longest silence of a periodic id, in longest gaps of that id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silence_score: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silence_alarm: Option<bool>,
    /// 1 if a message of the window was injected, as the capture says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<u8>,
}

/// Scores chunks of windows of one capture after another.
pub struct Scorer<'m> {
    model: &'m ScoringModel,
    loader: Loader,
    batch: usize,
    capture: String,
    next_window: u64,
}

impl<'m> Scorer<'m> {
    pub fn new(model: &'m ScoringModel, device: Device, batch: usize) -> Self {
        Self { model, loader: Loader::new(device), batch, capture: String::new(), next_window: 0 }
    }

    /// Scores of the next windows of `capture`.
    ///
    /// # Errors
    /// What libtorch reports; `NotFinite` for a model that gives no numbers.
    pub fn score<'a>(&mut self, chunk: &Chunk, capture: &'a str) -> Result<Vec<WindowScore<'a>>, ScoreError> {
        if self.capture != capture {
            (self.capture, self.next_window) = (capture.to_owned(), 0);
        }
        let (pair, set) = (&self.model.pair, &chunk.windows.graphs);
        let mut silent = Silent;
        let mut evaluator = Evaluator::of_passes(&mut self.loader, &mut silent, self.batch, "score", 1);
        let rows = evaluator.rows(set, &all(set), ROW_WIDTH, |batch| {
            state_rows(&pair.vgae.score_batch(batch), &pair.gat.score_batch(batch))
        })?;
        // Had a batch to be made smaller, it stays so.
        self.batch = evaluator.batch();
        let truth: Vec<Truth> = set.label.iter().map(|&label| chunk.has_labels.then_some(label)).collect();
        let states = RawStates::new(&rows, truth)?;
        let (gat, vgae) = (host(&states.margin)?, pair.file.vgae.scale.scores(&states.errors));
        let fused = self.model.fusion.as_ref().map(|fusion| {
            let scaled = fusion.scaling.apply(&states, rows.device());
            Ok::<_, ScoreError>((host(&fused_scores(&fusion.net, &scaled)?)?, fusion.threshold.value))
        });
        let fused = fused.transpose()?;
        let silence = pair.file.silence.as_ref().map(|part| part.threshold.value);
        let above = |score: f32, threshold: f64| f64::from(score) > threshold;
        let scores = (0..set.len()).map(|i| {
            let gat_attack = above(gat[i], pair.file.gat.threshold.value);
            let fusion = fused.as_ref().map(|(scores, threshold)| (scores[i], above(scores[i], *threshold)));
            let silent_s = chunk.windows.silence[i];
            WindowScore {
                capture,
                window: self.next_window + i as u64,
                start_s: chunk.windows.start_s[i],
                end_s: chunk.windows.end_s[i],
                attack: fusion.map_or(gat_attack, |(_, attack)| attack),
                gat_score: gat[i],
                gat_attack,
                vgae_score: vgae[i],
                vgae_attack: above(vgae[i], pair.file.vgae.threshold.value),
                fusion_score: fusion.map(|(score, _)| score),
                fusion_attack: fusion.map(|(_, attack)| attack),
                silence_score: silence.map(|_| silent_s),
                silence_alarm: silence.map(|threshold| above(silent_s, threshold)),
                label: states.truth[i],
            }
        });
        let scores: Vec<WindowScore<'a>> = scores.collect();
        self.next_window += scores.len() as u64;
        Ok(scores)
    }
}
