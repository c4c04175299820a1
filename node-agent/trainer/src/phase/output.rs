//! Files of a result: whole or not there at all.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tch::{Device, Tensor};

use super::PhaseError;
use crate::metrics::{FolderReport, ModelReport};

/// Writes the bytes that `fill` makes: temporary file, fsync, rename.
fn whole(path: &Path, fill: impl FnOnce(&Path) -> Result<(), PhaseError>) -> Result<(), PhaseError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    fill(&temporary)?;
    let io = |action| move |source| PhaseError::Io { action, path: path.to_owned(), source };
    File::open(&temporary).and_then(|file| file.sync_all()).map_err(io("sync"))?;
    std::fs::rename(&temporary, path).map_err(io("rename to"))?;
    match path.parent() {
        Some(parent) => File::open(parent).and_then(|dir| dir.sync_all()).map_err(io("sync the folder of")),
        None => Ok(()),
    }
}

/// Pretty JSON with a final newline.
///
/// # Errors
/// `Io` when the disk refuses.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<(), PhaseError> {
    whole(path, |temporary| {
        let io = |source| PhaseError::Io { action: "write", path: path.to_owned(), source };
        let mut text = serde_json::to_vec_pretty(value).map_err(|error| io(error.into()))?;
        text.push(b'\n');
        File::create(temporary).and_then(|mut file| file.write_all(&text)).map_err(io)
    })
}

/// A `.safetensors` file of named tensors.
///
/// # Errors
/// `Fit` with libtorch's words when the disk refuses.
pub fn write_tensors(path: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<(), PhaseError> {
    let host: Vec<(String, Tensor)> = tensors
        .iter()
        .map(|(name, tensor)| (name.clone(), tensor.detach().to_device(Device::Cpu).contiguous()))
        .collect();
    whole(path, |temporary| Ok(Tensor::write_safetensors(&host, temporary)?))
}

/// Names as Python's module expects them: batch normalisation has a counter there that is not used when its
/// momentum is set, but loading by name asks for it.
#[must_use]
pub fn for_python(tensors: &BTreeMap<String, Tensor>) -> Vec<(String, Tensor)> {
    let mut named: Vec<(String, Tensor)> = tensors
        .iter()
        .map(|(name, tensor)| (name.clone(), tensor.detach().to_device(Device::Cpu).contiguous()))
        .collect();
    let counters = tensors.keys().filter_map(|name| name.strip_suffix("running_mean"));
    named.extend(counters.map(|prefix| (format!("{prefix}num_batches_tracked"), Tensor::from(0_i64))));
    named.sort_by(|a, b| a.0.cmp(&b.0));
    named
}

/// The figures of a report as `model.folder.figure`; figures without a meaning are left out.
pub fn flatten(model: &str, report: &ModelReport, into: &mut BTreeMap<String, f64>) {
    into.insert(format!("{model}.threshold"), report.threshold.value);
    for (folder, figures) in &report.folders {
        let mut put = |figure: &str, value: Option<f64>| {
            into.extend(value.map(|value| (format!("{model}.{folder}.{figure}"), value)));
        };
        match figures {
            FolderReport::Labelled(r) => {
                put("n", Some(r.n as f64));
                put("positives", Some(r.positives as f64));
                put("accuracy", r.accuracy);
                put("precision", r.precision);
                put("recall", r.recall);
                put("f1", r.f1);
                put("mcc", Some(r.mcc));
                put("auc", r.auc);
                put("fpr", r.fpr);
                if let Some(rest) = &r.unlabelled {
                    put("unlabelled_n", Some(rest.n as f64));
                    put("unlabelled_alarm_rate", rest.alarm_rate);
                }
            }
            FolderReport::Unlabelled(r) => {
                put("n", Some(r.n as f64));
                put("alarm_rate", r.alarm_rate);
            }
        }
    }
}

/// As [`flatten`], but of folders with labels only how often benign windows alarm.
pub fn flatten_alarms(model: &str, report: &ModelReport, into: &mut BTreeMap<String, f64>) {
    let mut all = BTreeMap::new();
    flatten(model, report, &mut all);
    into.extend(all.into_iter().filter(|(key, _)| {
        [".threshold", ".n", ".alarm_rate", ".fpr"].iter().any(|figure| key.ends_with(figure))
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_finds_the_counter_of_each_batch_normalisation() {
        crate::runtime::init();
        let one = || Tensor::from_slice(&[1.0_f32]);
        let tensors = BTreeMap::from([
            ("encoder_bns.0.running_mean".to_owned(), one()),
            ("z_mean.bias".to_owned(), one()),
        ]);
        let names: Vec<String> = for_python(&tensors).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["encoder_bns.0.num_batches_tracked", "encoder_bns.0.running_mean", "z_mean.bias"]);
    }

    #[test]
    fn a_refused_write_leaves_nothing_behind_under_the_final_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("missing/model.json");
        assert!(matches!(write_json(&path, &1), Err(PhaseError::Io { action: "write", .. })));
        let path = dir.path().join("model.json");
        write_json(&path, &1).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
