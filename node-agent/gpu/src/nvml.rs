//! NVIDIA cards through NVML.
//!
//! Symbols of the library load one by one, and an old driver lacks some: every figure but name and memory is
//! optional. A card that can not be spoken to (fallen off the bus) is listed with a fault under its last known
//! name, so that nobody mistakes it for a card that never was.

use crate::xid::Xids;
use crate::{DeviceSample, Probe, ProbeError, ProcessSample};
use common::ids::DeviceId;
use common::messages::DeviceKind;
use common::units::Mib;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::{Mutex, PoisonError};

/// All cards of the machine.
#[derive(Default)]
pub struct NvmlProbe {
    library: Option<OsString>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    nvml: Option<Nvml>,
    /// Listened to from the first look on that found a driver.
    xids: Option<Xids>,
    /// Cards seen, by index, as they were when they last answered.
    known: BTreeMap<u32, DeviceSample>,
}

impl NvmlProbe {
    /// With another library than `libnvidia-ml.so.1` of the search path.
    pub fn with_library(path: impl Into<OsString>) -> NvmlProbe {
        NvmlProbe { library: Some(path.into()), inner: Mutex::default() }
    }

    fn init(&self) -> Result<Option<Nvml>, ProbeError> {
        let opened = match &self.library {
            Some(path) => Nvml::builder().lib_path(path).init(),
            None => Nvml::init(),
        };
        match opened {
            Ok(nvml) => Ok(Some(nvml)),
            // All three mean a machine without an NVIDIA driver.
            Err(NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound | NvmlError::DriverNotLoaded) => {
                Ok(None)
            }
            Err(error) => Err(told(&error)),
        }
    }
}

impl Probe for NvmlProbe {
    fn sample(&self) -> Result<Vec<DeviceSample>, ProbeError> {
        // A panic of another thread inside leaves at worst an old list of known cards.
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.nvml.is_none() {
            inner.nvml = self.init()?;
        }
        let Inner { nvml, xids, known } = &mut *inner;
        let Some(open) = nvml else { return Ok(Vec::new()) };
        let xids = xids.get_or_insert_with(|| Xids::listen(self.library.clone()));
        match look(open, known, xids) {
            Ok(samples) => Ok(samples),
            Err(error) => {
                // The driver was reloaded or is broken: open it anew at the next look.
                *nvml = None;
                Err(told(&error))
            }
        }
    }
}

fn told(error: &NvmlError) -> ProbeError {
    ProbeError::Nvml(error.to_string())
}

fn look(
    nvml: &Nvml,
    known: &mut BTreeMap<u32, DeviceSample>,
    xids: &Xids,
) -> Result<Vec<DeviceSample>, NvmlError> {
    let count = nvml.device_count()?;
    let mut samples = Vec::new();
    for index in 0..count {
        let card = nvml.device_by_index(index).and_then(|card| Ok((of_device(&card, None)?, card)));
        match card {
            Ok((mut sample, card)) => {
                sample.fault = xids.fault_of(sample.id.as_str());
                known.insert(index, sample.clone());
                match instances(&card, &sample) {
                    Some(instances) => samples.extend(instances),
                    None => samples.push(sample),
                }
            }
            Err(error) => samples.push(lost(index, known.get(&index), &error)),
        }
    }
    // A lost card may be taken out of the count.
    let gone = known.iter().filter(|(index, _)| **index >= count);
    samples.extend(gone.map(|(index, last)| lost(*index, Some(last), &NvmlError::GpuLost)));
    Ok(samples)
}

/// Name and memory must be told; the rest may be missing.
fn of_device(card: &Device<'_>, parent_model: Option<&str>) -> Result<DeviceSample, NvmlError> {
    let id = DeviceId::new(card.uuid()?).map_err(|_| NvmlError::Unknown)?;
    let model = match (card.name(), parent_model) {
        (Ok(name), _) => name,
        (Err(_), Some(parent)) => format!("{parent} MIG"),
        (Err(error), None) => return Err(error),
    };
    let memory = card.memory_info()?;
    let processes = card.running_compute_processes().ok().map(|listed| {
        let used = |memory: &UsedGpuMemory| match memory {
            UsedGpuMemory::Used(bytes) => Some(Mib::from_bytes_ceil(*bytes)),
            UsedGpuMemory::Unavailable => None,
        };
        listed.iter().map(|p| ProcessSample { pid: p.pid, used_mib: used(&p.used_gpu_memory) }).collect()
    });
    Ok(DeviceSample {
        id,
        kind: DeviceKind::Gpu,
        model,
        total_mib: Mib(memory.total >> 20), // rounded down: what is left of a MiB can not be used
        used_mib: Some(Mib::from_bytes_ceil(memory.used)),
        processes,
        utilization_percent: card.utilization_rates().ok().map(|rates| rates.gpu),
        fault: None,
    })
}

/// The MIG instances of a card that is divided; `None` for one that is not. A divided card takes no work itself.
fn instances(card: &Device<'_>, whole: &DeviceSample) -> Option<Vec<DeviceSample>> {
    let divided = card.mig_mode().is_ok_and(|mode| mode.current == 1);
    let most = if divided { card.mig_device_count().ok()? } else { return None };
    let one = |index| card.mig_device_by_index(index).ok();
    let instances = (0..most).filter_map(one);
    let seen = instances.filter_map(|instance| of_device(&instance, Some(&whole.model)).ok());
    Some(seen.map(|instance| DeviceSample { fault: whole.fault.clone(), ..instance }).collect())
}

fn lost(index: u32, last: Option<&DeviceSample>, error: &NvmlError) -> DeviceSample {
    let fault = Some(format!("the card does not answer: {error}"));
    match last {
        Some(last) => {
            DeviceSample { used_mib: None, processes: None, utilization_percent: None, fault, ..last.clone() }
        }
        None => DeviceSample {
            // Never answered, so its UUID is not known; index names it. Digits and letters are always a name.
            id: DeviceId::new(format!("GPU-index-{index}")).expect("letters, digits and dashes"),
            kind: DeviceKind::Gpu,
            model: "unknown".to_owned(),
            total_mib: Mib(0),
            used_mib: None,
            processes: None,
            utilization_percent: None,
            fault,
        },
    }
}
