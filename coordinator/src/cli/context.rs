//! What every verb shares: flags, configuration, folders.

use super::args::Global;
use super::exit::{Exit, Fault};
use super::local::home::{Home, Running};
use crate::output::Out;
pub use crate::shell::audit::now;
use anyhow::{Context as _, Result};
use artifacts::{Store, StoreOptions};
use common::config::{Config, FILE_NAMES, Sources};
use common::slot::Cause;
use common::spelling::did_you_mean;
use common::units::Millis;
use coordinator_core::Options;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Folder of configuration files that is used without being named.
const DEFAULT_CONF: &str = "conf";

#[derive(Clone)]
pub struct Context {
    pub global: Global,
    pub out: Out,
}

/// A folder of datasets: as a path here, and as the URL that goes into a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataRoot {
    pub path: PathBuf,
    pub url: String,
}

impl Context {
    pub fn new(global: Global) -> Context {
        let out = Out { format: global.output, verbose: global.verbose };
        Context { global, out }
    }

    pub fn home(&self) -> Home {
        Home::at(&self.global.home)
    }

    /// Folder of configuration files, if there is one.
    pub fn conf_dir(&self) -> Option<PathBuf> {
        match &self.global.conf {
            Some(dir) => Some(dir.clone()),
            None => Some(PathBuf::from(DEFAULT_CONF)).filter(|dir| dir.is_dir()),
        }
    }

    /// All layers of the configuration.
    pub fn config(&self) -> Result<Config> {
        let mut files = Vec::new();
        if let Some(dir) = self.conf_dir() {
            if !dir.is_dir() {
                let message = format!("the configuration folder {} does not exist", dir.display());
                return Err(Fault::new(Exit::Error, message)
                    .way_out("name an existing folder with --conf, or leave it out for the built-in settings")
                    .into());
            }
            for name in FILE_NAMES {
                let path = dir.join(name);
                match std::fs::read_to_string(&path) {
                    Ok(text) => files.push((path.display().to_string(), text)),
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                    Err(e) => return Err(e).with_context(|| format!("reading {}", path.display())),
                }
            }
        }
        let env: Vec<(String, String)> = std::env::vars().collect();
        let sources = Sources {
            files: files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect(),
            env: env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
            flags: self.global.set.iter().map(String::as_str).collect(),
        };
        Ok(Config::resolve(&sources)?)
    }

    /// The folder of captures: the flag, else the one the local cluster was started with.
    pub fn data_root(&self) -> Result<DataRoot> {
        let last = || self.home().last().and_then(|l: Running| l.data_url);
        let Some(given) = self.global.data.clone().or_else(last) else {
            return Err(Fault::new(Exit::Error, "no folder of captures given")
                .way_out(
                    "name the folder that holds the dataset folders with --data or COORD_DATA; \
                     `coord data sample captures` makes one to try",
                )
                .into());
        };
        data_root_of(&given)
    }

    pub fn open_store(&self, url: Option<&str>) -> Result<Store> {
        let Some(url) = url else {
            return Err(Fault::new(Exit::Error, "no store of results given")
                .way_out("name it with --store or COORD_STORE: file:///folder or s3://bucket/prefix")
                .into());
        };
        Ok(Store::open(url, &StoreOptions::default())?)
    }
}

/// A path or a `file://` URL into both forms.
pub fn data_root_of(given: &str) -> Result<DataRoot> {
    let path = match given.split_once("://") {
        None => PathBuf::from(given),
        Some(("file", path)) if path.starts_with('/') => PathBuf::from(path),
        Some(_) => {
            return Err(Fault::new(Exit::Error, format!("captures can not be read from {given}"))
                .way_out("name a folder of this machine that every agent sees under the same path")
                .into());
        }
    };
    if !path.is_dir() {
        let message = format!("the data folder {} does not exist", path.display());
        return Err(Fault::new(Exit::Error, message)
            .way_out("name the folder that holds the dataset folders: --data FOLDER")
            .into());
    }
    let path = path.canonicalize().with_context(|| format!("finding {}", path.display()))?;
    let url = format!("file://{}", path.display());
    Ok(DataRoot { path, url })
}

pub fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("finding {}", path.display()))
}

/// Times and budgets of the core as the configuration says.
pub fn core_options(config: &Config) -> Options {
    let (cluster, retries) = (&config.cluster, &config.pipeline.retries);
    let secs = |s: u32| Millis::from_secs(u64::from(s));
    Options {
        lease: secs(cluster.lease_s),
        unreachable: secs(cluster.unreachable_s),
        offer_timeout: secs(cluster.offer_s),
        locality_wait: secs(config.pipeline.placement.locality_wait_s),
        yield_grace: secs(cluster.yield_grace_s),
        preemption: cluster.preemption,
        fast_failure: secs(cluster.fast_failure_s),
        quarantine_after: cluster.quarantine_after,
        queue_timeout: Millis::from_secs(u64::from(cluster.queue_minutes) * 60),
        backoff_base: secs(cluster.backoff_s),
        backoff_max: secs(cluster.backoff_max_s),
        budgets: BTreeMap::from([
            (Cause::Infrastructure, retries.infrastructure),
            (Cause::Preemption, retries.preemption),
            (Cause::OutOfMemory, retries.out_of_memory),
            (Cause::Diverged, retries.diverged),
            (Cause::UserError, retries.user_error),
            (Cause::Store, retries.store),
        ]),
        ..Options::default()
    }
}

/// An unknown name: what is there, and which one was perhaps meant.
pub fn unknown(what: &str, given: &str, known: &[String]) -> Fault {
    let fault = Fault::new(Exit::Error, format!("there is no {what} {given:?}"));
    let list = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    match did_you_mean(given, known.iter().map(String::as_str)) {
        Some(name) => fault.way_out(format!("did you mean {name}? known: {list}")),
        None => fault.way_out(format!("known: {list}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_met_with_the_nearest_one() {
        let known = ["hcrl_sa".to_owned(), "set_01".to_owned()];
        let fault = unknown("dataset", "hcrl_as", &known);
        assert_eq!(fault.way_out.as_deref(), Some("did you mean hcrl_sa? known: hcrl_sa, set_01"));
        assert_eq!(unknown("dataset", "zzz", &known).way_out.as_deref(), Some("known: hcrl_sa, set_01"));
    }

    #[test]
    fn a_data_folder_is_a_path_or_a_file_url() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap();
        let url = format!("file://{}", path.display());
        let root = DataRoot { path: path.clone(), url: url.clone() };
        assert_eq!(data_root_of(&path.display().to_string()).unwrap(), root);
        assert_eq!(data_root_of(&url).unwrap(), root);
        for bad in ["s3://bucket/x", "/no/such/folder"] {
            let error = data_root_of(bad).unwrap_err();
            assert!(error.downcast_ref::<Fault>().unwrap().way_out.is_some(), "{bad}");
        }
    }
}
