//! `coord data`: make, list and check captures.

use super::args::DataVerb;
use super::context::Context;
use super::exit::{Exit, Fault};
use crate::output::lists;
use anyhow::{Context as _, Result};
use dataset::{Layout, ReadOptions, SampleConfig, WindowConfig, layout, sample};
use std::path::Path;

pub async fn run(context: &Context, verb: &DataVerb) -> Result<Exit> {
    let out = context.out;
    match verb {
        DataVerb::Sample { seed, minutes, dir } => {
            let (config, dir) = (SampleConfig { seed: *seed, minutes: *minutes }, dir.clone());
            let report = blocking(move || Ok(sample::write(&config, &dir)?)).await?;
            let folder = report.folder.display().to_string();
            out.page(lists::sample_json(&report), || lists::sample(&report), || vec![folder]);
            Ok(Exit::Ok)
        }
        DataVerb::Scan { dir } => {
            for layout in layouts(dir)? {
                let name = layout.dataset.clone();
                let scans = blocking(move || {
                    Ok(dataset::scan(&layout, &WindowConfig::default(), &ReadOptions::default())?)
                });
                let scans = scans.await?;
                let ids = || scans.iter().map(|c| format!("{name}/{}/{}", c.folder, c.name)).collect();
                out.page(lists::scan_json(&name, &scans), || lists::scan(&name, &scans), ids);
            }
            Ok(Exit::Ok)
        }
        DataVerb::Check { dir } => {
            let mut exit = Exit::Ok;
            for layout in layouts(dir)? {
                let report = blocking(move || {
                    Ok(dataset::check(&layout, &WindowConfig::default(), &ReadOptions::default())?)
                });
                let report = report.await?;
                if report.has_errors() {
                    exit = Exit::Error;
                }
                let name = report.dataset.clone();
                out.page(lists::check_json(&report), || lists::check(&report), || vec![name]);
            }
            Ok(exit)
        }
    }
}

/// The datasets of a folder of datasets, or the one that the folder itself is.
fn layouts(dir: &Path) -> Result<Vec<Layout>> {
    let names = layout::list_datasets(dir)?;
    if !names.is_empty() {
        return Ok(names.iter().map(|name| layout::find(dir, name)).collect::<Result<_, _>>()?);
    }
    let dir = dir.canonicalize().with_context(|| format!("finding {}", dir.display()))?;
    match (dir.parent(), dir.file_name()) {
        (Some(root), Some(name)) => Ok(vec![layout::find(root, &name.to_string_lossy())?]),
        _ => Err(Fault::new(Exit::Error, format!("{} holds no dataset", dir.display())).into()),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.context("reading the captures")?
}
