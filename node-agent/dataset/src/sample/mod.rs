//! Made-up captures in the public folder layout, for a first run without real ones.
//!
//! Three vehicles send periodic and event-driven messages with counters, checksums and slowly moving signals over a
//! bus with arbitration. Two vehicles are known to training, the third is not; DoS, fuzzing and gear spoofing are
//! known attacks, rpm spoofing and replay are not. Spoofed messages come at about the rhythm of the real ones while
//! benign traffic swells and ebbs by itself, so that the rate of messages alone gives them away badly.

mod attack;
mod bus;
mod ecu;
mod rng;
mod vehicle;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::atomic::write_atomically;
use crate::error::{DataError, Result};
use crate::frames::Frames;
use attack::Attack;
use rng::Rng;
use vehicle::Vehicle;

/// Name of the dataset folder that is written.
pub const DATASET: &str = "sample";
/// Raised when the same settings give other captures.
const VERSION: u32 = 1;
const MARKER: &str = "sample.json";

/// What to make.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SampleConfig {
    pub seed: u64,
    /// Minutes of traffic over all captures, copies not counted; 0.2 to 600. About 100,000 messages each.
    pub minutes: f64,
}

impl Default for SampleConfig {
    fn default() -> Self {
        Self { seed: 42, minutes: 4.0 }
    }
}

/// One capture that was written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SampleCapture {
    pub folder: String,
    pub name: String,
    pub rows: u64,
    pub attack_rows: u64,
    pub seconds: f64,
    pub bytes: u64,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SampleReport {
    version: u32,
    pub config: SampleConfig,
    pub captures: Vec<SampleCapture>,
    /// The dataset folder.
    #[serde(skip)]
    pub folder: PathBuf,
    /// True if the same captures were there already.
    #[serde(skip)]
    pub up_to_date: bool,
}

struct Planned {
    folders: &'static [&'static str],
    name: &'static str,
    vehicle: usize,
    attack: Attack,
    /// Share of the time, in parts.
    parts: f64,
}

const VEHICLES: [&str; 3] = ["orion", "vega", "lyra"];

const TRAIN: &[&str] = &["train_02_with_attacks"];
const BOTH_TRAIN: &[&str] = &["train_01_attack_free", "train_02_with_attacks"];
const T01: &[&str] = &["test_01_known_vehicle_known_attack"];
const T02: &[&str] = &["test_02_unknown_vehicle_known_attack"];
const T03: &[&str] = &["test_03_known_vehicle_unknown_attack"];
const T04: &[&str] = &["test_04_unknown_vehicle_unknown_attack"];
const T05: &[&str] = &["test_05_suppress"];
const T06: &[&str] = &["test_06_masquerade"];

const fn planned(
    folders: &'static [&'static str],
    name: &'static str,
    vehicle: usize,
    attack: Attack,
    parts: f64,
) -> Planned {
    Planned { folders, name, vehicle, attack, parts }
}

const PLAN: &[Planned] = &[
    planned(BOTH_TRAIN, "attack-free", 0, Attack::None, 3.0),
    planned(BOTH_TRAIN, "attack-free", 1, Attack::None, 3.0),
    planned(TRAIN, "DoS", 0, Attack::Dos, 1.5),
    planned(TRAIN, "fuzzing", 1, Attack::Fuzzing, 1.5),
    planned(TRAIN, "gear-spoofing", 0, Attack::Gear, 1.5),
    planned(TRAIN, "gear-spoofing", 1, Attack::Gear, 1.5),
    planned(T01, "DoS", 1, Attack::Dos, 1.0),
    planned(T01, "fuzzing", 0, Attack::Fuzzing, 1.0),
    planned(T01, "gear-spoofing", 0, Attack::Gear, 1.0),
    planned(T02, "DoS", 2, Attack::Dos, 1.0),
    planned(T02, "fuzzing", 2, Attack::Fuzzing, 1.0),
    planned(T03, "rpm-spoofing", 0, Attack::Rpm, 1.0),
    planned(T03, "replay", 1, Attack::Replay, 1.0),
    planned(T04, "rpm-spoofing", 2, Attack::Rpm, 1.0),
    planned(T04, "replay", 2, Attack::Replay, 1.0),
    planned(T05, "suppress", 0, Attack::Suppress, 1.0),
    planned(T06, "masquerade", 1, Attack::Masquerade, 1.0),
];

/// Writes the captures to `<dir>/sample/`, the same bytes for the same configuration.
///
/// A sample that is there and whole is left as it is; another one made by this program is replaced; a folder with
/// other content is refused.
pub fn write(config: &SampleConfig, dir: &Path) -> Result<SampleReport> {
    if !(0.2..=600.0).contains(&config.minutes) {
        let value = config.minutes.to_string();
        return Err(DataError::BadSetting { key: "minutes", value, expected: "0.2 to 600" });
    }
    let folder = dir.join(DATASET);
    if let Some(report) = existing(&folder)? {
        if report.version == VERSION && report.config == *config && is_whole(&folder, &report) {
            return Ok(SampleReport { folder, up_to_date: true, ..report });
        }
        fs::remove_dir_all(&folder).map_err(|e| DataError::io("replace", &folder, e))?;
    }
    // First of all an empty record: a run that dies on the way leaves a folder known as ours.
    let mut report =
        SampleReport { version: VERSION, config: *config, captures: Vec::new(), folder, up_to_date: false };
    write_marker(&report)?;
    let vehicles: Vec<Vehicle> =
        (0u64..).zip(VEHICLES).map(|(n, name)| Vehicle::new(name, config.seed, n)).collect();
    let all_parts: f64 = PLAN.iter().map(|planned| planned.parts).sum();
    let captures: Vec<Vec<SampleCapture>> = PLAN
        .par_iter()
        .enumerate()
        .map(|(number, planned)| {
            let seconds = config.minutes * 60.0 * planned.parts / all_parts;
            let vehicle = &vehicles[planned.vehicle];
            let mut rng = Rng::new(config.seed, number as u64);
            let start_s = 1_700_000_000.0 + 3_600.0 * number as f64;
            let frames = bus::simulate(vehicle, planned.attack, seconds, start_s, &mut rng);
            write_capture(&report.folder, planned, vehicle.name, seconds, &frames)
        })
        .collect::<Result<_>>()?;
    report.captures = captures.into_iter().flatten().collect();
    report.captures.sort_by(|a, b| (&a.folder, &a.name).cmp(&(&b.folder, &b.name)));
    write_marker(&report)?;
    Ok(report)
}

fn capture_path(folder: &Path, sub_folder: &str, name: &str) -> PathBuf {
    folder.join(sub_folder).join(format!("{name}.csv"))
}

/// The record of a sample in this folder; none if there is nothing yet.
fn existing(folder: &Path) -> Result<Option<SampleReport>> {
    let mut entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(DataError::io("list folder", folder, e)),
    };
    let record = fs::read(folder.join(MARKER)).ok().and_then(|text| serde_json::from_slice(&text).ok());
    match record {
        None if entries.next().is_some() => Err(DataError::NotOurs { path: folder.into() }),
        record => Ok(record),
    }
}

fn is_whole(folder: &Path, report: &SampleReport) -> bool {
    let size = |capture: &SampleCapture| {
        fs::metadata(capture_path(folder, &capture.folder, &capture.name)).map(|meta| meta.len())
    };
    !report.captures.is_empty()
        && report.captures.iter().all(|capture| size(capture).is_ok_and(|bytes| bytes == capture.bytes))
}

fn write_marker(report: &SampleReport) -> Result<()> {
    let path = report.folder.join(MARKER);
    let text = serde_json::to_vec_pretty(report)
        .map_err(|e| DataError::BrokenJson { path: path.clone(), reason: e.to_string() })?;
    write_atomically(&path, |out| out.write_all(&text))
}

fn write_capture(
    folder: &Path,
    planned: &Planned,
    vehicle: &str,
    seconds: f64,
    frames: &Frames,
) -> Result<Vec<SampleCapture>> {
    let name = format!("{}-{vehicle}", planned.name);
    let text = csv_text(frames);
    let mut written = Vec::new();
    for sub_folder in planned.folders {
        write_atomically(&capture_path(folder, sub_folder, &name), |out| out.write_all(&text))?;
        written.push(SampleCapture {
            folder: (*sub_folder).to_string(),
            name: name.clone(),
            rows: frames.len() as u64,
            attack_rows: frames.label.iter().map(|&label| u64::from(label)).sum(),
            seconds,
            bytes: text.len() as u64,
        });
    }
    Ok(written)
}

fn csv_text(frames: &Frames) -> Vec<u8> {
    let mut text = Vec::with_capacity(48 * frames.len() + 64);
    text.extend_from_slice(b"timestamp,arbitration_id,data_field,attack\n");
    for row in 0..frames.len() {
        // Writing to a Vec cannot fail.
        let _ = write!(text, "{:.6},{:03X},", frames.timestamp_s[row], frames.id[row]);
        for byte in &frames.payload[row][..frames.len[row] as usize] {
            let _ = write!(text, "{byte:02X}");
        }
        let _ = writeln!(text, ",{}", frames.label[row]);
    }
    text
}

#[cfg(test)]
mod tests;
