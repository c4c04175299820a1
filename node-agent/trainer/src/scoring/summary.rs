//! What is told at the end of scoring.

use std::collections::BTreeMap;
use std::fmt;

use dataset::{AttackKind, ReadReport};

use super::ScoreError;
use super::model::ScoringModel;
use super::scorer::WindowScore;
use super::windows::Source;
use crate::metrics::{Confusion, Scored};

/// Decisions of one detector.
#[derive(Debug, Clone, Default, PartialEq)]
struct Decisions {
    attacks: u64,
    /// Of the windows with labels: 1.0 for called an attack, else 0.0.
    called: Vec<f32>,
    labels: Vec<u8>,
}

/// Counts over all captures.
#[derive(Debug, Default)]
pub struct Summary {
    pub windows: u64,
    pub messages: u64,
    pub bad_lines: u64,
    pub seconds: f64,
    /// By detector: `gat`, `vgae`, `fusion`, `silence`.
    detectors: BTreeMap<&'static str, Decisions>,
    /// Of the capture that is being scored, until it is known whether its labels mean something.
    pending: BTreeMap<&'static str, Decisions>,
}

impl Summary {
    pub(super) fn of(model: &ScoringModel) -> Self {
        let detectors = [
            ("gat", true),
            ("vgae", true),
            ("fusion", model.fusion.is_some()),
            ("silence", model.pair.file.silence.is_some()),
        ];
        let there = detectors.into_iter().filter(|(_, there)| *there);
        Self { detectors: there.map(|(name, _)| (name, Decisions::default())).collect(), ..Self::default() }
    }

    pub(super) fn add(&mut self, rows: &[WindowScore<'_>]) {
        self.windows += rows.len() as u64;
        for row in rows {
            let decisions = [
                ("gat", Some(row.gat_attack)),
                ("vgae", Some(row.vgae_attack)),
                ("fusion", row.fusion_attack),
                ("silence", row.silence_alarm),
            ];
            for (name, attack) in decisions.into_iter().filter_map(|(name, attack)| Some((name, attack?))) {
                let pending = self.pending.entry(name).or_default();
                pending.attacks += u64::from(attack);
                // The silence of ids says nothing about injected messages.
                if let Some(label) = row.label.filter(|_| name != "silence") {
                    pending.called.push(if attack { 1.0 } else { 0.0 });
                    pending.labels.push(label);
                }
            }
        }
    }

    /// Settles the counts of a capture: suppress captures say 0 in every row, frames having been taken away.
    pub(super) fn capture_ends(&mut self, source: &Source, report: &ReadReport) -> Result<(), ScoreError> {
        self.messages += report.rows;
        self.bad_lines += report.bad_lines;
        let meant = source.attack_kind != AttackKind::Suppress || report.attack_rows > 0;
        for (name, pending) in std::mem::take(&mut self.pending) {
            let all = self.detectors.entry(name).or_default();
            all.attacks += pending.attacks;
            if meant {
                all.called.extend(pending.called);
                all.labels.extend(pending.labels);
            }
        }
        Ok(())
    }

    /// F1 of a detector's decisions on the windows with labels; none without an attack among them.
    #[must_use]
    pub fn f1(&self, detector: &str) -> Option<f64> {
        let decisions = self.detectors.get(detector)?;
        let scored = Scored::new(&decisions.called, &decisions.labels).ok()?;
        if scored.positives() == 0 { None } else { Confusion::at(&scored, 0.5).f1() }
    }

    /// Windows that a detector calls an attack.
    #[must_use]
    pub fn attacks(&self, detector: &str) -> Option<u64> {
        self.detectors.get(detector).map(|decisions| decisions.attacks)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = self.messages as f64 / self.seconds.max(1e-9);
        write!(
            f,
            "{} windows of {} messages in {:.1} s ({rate:.0} messages/s)",
            self.windows, self.messages, self.seconds
        )?;
        if self.bad_lines > 0 {
            write!(f, ", {} bad lines left out", self.bad_lines)?;
        }
        for (name, decisions) in &self.detectors {
            write!(f, "\n{name:8} {} attacks", decisions.attacks)?;
            if let Some(f1) = self.f1(name) {
                write!(f, ", F1 {f1:.4} on {} labelled windows", decisions.labels.len())?;
            }
        }
        Ok(())
    }
}
