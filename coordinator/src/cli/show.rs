//! `coord config show` and `coord version`.

use super::args::ConfigVerb;
use super::context::Context;
use super::exit::Exit;
use crate::output::{self, lists};
use anyhow::Result;
use common::ids::{DatasetId, Phase};
use serde_json::json;

pub fn config(context: &Context, verb: &ConfigVerb) -> Result<Exit> {
    let ConfigVerb::Show { dataset, phase } = verb;
    let config = context.config()?;
    let dataset = DatasetId::new(dataset.as_str())?;
    let phases = phase.map_or(Phase::ALL.to_vec(), |phase| vec![phase]);
    for phase in phases {
        let job = config.job(&dataset, phase);
        let page = output::schema("config", json!({"job": job}));
        context.out.page(page, || job.to_yaml_with_origins(&config), || vec![format!("{dataset}/{phase}")]);
    }
    Ok(Exit::Ok)
}

pub fn version(context: &Context) -> Exit {
    context.out.page(lists::version_json(), lists::version, || vec![env!("CARGO_PKG_VERSION").to_owned()]);
    Exit::Ok
}
