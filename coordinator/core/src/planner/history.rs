//! What the manifests of earlier results tell: how long a phase takes, and how much memory it needs, by size
//! of its networks and model of device.

use common::config::PlacementSpec;
use common::digest::Digest;
use common::ids::{DatasetId, JobName, Phase};
use common::job_key::shape_of;
use common::manifest::{CEILING_USED, Manifest};
use common::units::Mib;
use serde_json::Value;

/// One committed result.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub dataset: DatasetId,
    pub phase: Phase,
    pub size: Size,
    pub device_model: String,
    pub duration_ms: u64,
    pub peak_mib: Option<Mib>,
    /// It ran out of memory with more graphs at once.
    pub micro_batch_ceiling: Option<u32>,
}

/// Architecture of a phase's networks: what makes two runs of the same size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(Digest);

impl Size {
    pub fn of(semantic: &Value) -> Size {
        Size(shape_of(semantic))
    }
}

#[derive(Debug, Clone, Default)]
pub struct History {
    samples: Vec<Sample>,
}

/// A length that is known or guessed.
#[derive(Debug, Clone, PartialEq)]
pub struct Length {
    pub ms: u64,
    pub samples: usize,
    pub basis: String,
}

/// Fewest measured lengths of like jobs that tell how much lengths vary.
const SPREAD_MIN: usize = 2;

impl History {
    pub fn of<'a>(manifests: impl IntoIterator<Item = &'a Manifest>) -> History {
        let sample = |m: &Manifest| Sample {
            dataset: m.job.name.dataset.clone(),
            phase: m.job.name.phase,
            size: Size::of(&m.inputs.semantic),
            device_model: m.made.device_model.clone(),
            duration_ms: m.made.duration_ms,
            peak_mib: m.made.peak_memory_mib.filter(|peak| peak.0 > 0),
            micro_batch_ceiling: m.made.tuning_used.get(CEILING_USED).and_then(|n| n.parse().ok()),
        };
        History { samples: manifests.into_iter().map(sample).collect() }
    }

    pub fn of_samples(samples: Vec<Sample>) -> History {
        History { samples }
    }

    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// Models of device on which this phase of this size was measured.
    pub fn models(&self, phase: Phase, size: &Size) -> Vec<&str> {
        let of = self.samples.iter().filter(|s| s.phase == phase && s.size == *size && s.peak_mib.is_some());
        let mut models: Vec<&str> = of.map(|s| s.device_model.as_str()).collect();
        models.sort_unstable();
        models.dedup();
        models
    }

    /// Memory to ask on a model of device: the largest peak measured there with a margin, and its basis.
    pub fn need(
        &self,
        phase: Phase,
        size: &Size,
        model: &str,
        spec: &PlacementSpec,
    ) -> Option<(Mib, String)> {
        let of = |s: &&Sample| s.phase == phase && s.size == *size && s.device_model == model;
        let peaks: Vec<Mib> = self.samples.iter().filter(of).filter_map(|s| s.peak_mib).collect();
        let peak = *peaks.iter().max()?;
        let runs = if peaks.len() == 1 { "1 run".to_owned() } else { format!("{} runs", peaks.len()) };
        let with_margin = spec.with_margin(peak);
        Some((with_margin, format!("peak {peak} of {runs} measured + {}", with_margin.saturating_sub(peak))))
    }

    /// Most graphs at once on a model of device: the least that an out-of-memory there led to.
    pub fn micro_batch_max(&self, phase: Phase, size: &Size, model: &str) -> Option<u32> {
        let of = |s: &&Sample| s.phase == phase && s.size == *size && s.device_model == model;
        self.samples.iter().filter(of).filter_map(|s| s.micro_batch_ceiling).min()
    }

    /// Usual length of a job, on a model of device if one is named: the median of this dataset there, else of
    /// this dataset anywhere, else of other datasets. `None` = nothing like it was ever run.
    pub fn length(&self, name: &JobName, size: &Size, model: Option<&str>) -> Option<Length> {
        let like = |s: &&Sample| s.phase == name.phase && s.size == *size && s.duration_ms > 0;
        let like: Vec<&Sample> = self.samples.iter().filter(like).collect();
        let own = |s: &&Sample| s.dataset == name.dataset;
        let there = |s: &&Sample| model.is_some_and(|m| s.device_model == m);
        let all = || like.iter().copied();
        let groups: [(Vec<u64>, &str); 4] = [
            (lengths(all().filter(own).filter(there)), "this dataset on this device model"),
            (lengths(all().filter(own)), "this dataset"),
            (lengths(all().filter(there)), "other datasets on this device model"),
            (lengths(all()), "other datasets"),
        ];
        let (measured, of) = groups.into_iter().find(|(measured, _)| !measured.is_empty())?;
        let samples = measured.len();
        let basis = match samples {
            1 => format!("1 run of {of} measured"),
            n => format!("median of {n} runs of {of}"),
        };
        Some(Length { ms: median(measured), samples, basis })
    }

    /// How much lengths vary: each measured length over the median of its like (same dataset, phase, size and
    /// device model), sorted. Empty = nothing was run twice.
    pub fn spread(&self) -> Vec<f64> {
        let mut ratios = Vec::new();
        for (at, sample) in self.samples.iter().enumerate() {
            let like = |s: &&Sample| {
                (&s.dataset, s.phase, &s.size, &s.device_model)
                    == (&sample.dataset, sample.phase, &sample.size, &sample.device_model)
            };
            if self.samples[..at].iter().any(|s| like(&s)) {
                continue; // its group was taken with its first sample
            }
            let group = lengths(self.samples.iter().filter(like).filter(|s| s.duration_ms > 0));
            if group.len() >= SPREAD_MIN {
                let middle = median(group.clone()).max(1) as f64;
                ratios.extend(group.into_iter().map(|ms| ms as f64 / middle));
            }
        }
        ratios.sort_by(f64::total_cmp);
        ratios
    }
}

fn lengths<'a>(of: impl Iterator<Item = &'a Sample>) -> Vec<u64> {
    of.map(|s| s.duration_ms).collect()
}

/// The upper of the two in the middle: a forecast is rather late than early.
fn median(mut of: Vec<u64>) -> u64 {
    of.sort_unstable();
    of[of.len() / 2]
}
