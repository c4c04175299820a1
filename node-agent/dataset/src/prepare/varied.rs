//! Varied copies of training captures, each window on the side of the window it was made from.

use rayon::prelude::*;

use super::build::{Built, Source};
use crate::error::Result;
use crate::graph_set::GraphSet;
use crate::profile::STRANGER;
use crate::split::Split;

/// Windows that are added to both sides.
pub(super) struct Added {
    pub(super) train: GraphSet,
    pub(super) val: GraphSet,
}

/// Builds the copies of each capture of `all`. `training[c]` is the file of capture `c` of `all`.
///
/// A copy's windows are cut elsewhere than the original's, so a window belongs to the original window in which it
/// begins; those that begin in no window of `split` are left out. Of benign windows only those with a stranger or
/// an added message are new, the others are in `all` already.
pub(super) fn build(
    source: &Source<'_>,
    training: &[Built<'_>],
    all: &GraphSet,
    split: &Split,
    with_edges: bool,
) -> Result<Added> {
    let mut added = Added { train: GraphSet::empty(with_edges), val: GraphSet::empty(with_edges) };
    let wanted: Vec<(usize, u32)> = (0..training.len())
        .flat_map(|capture| (0..source.copies_wanted()).map(move |copy| (capture, copy)))
        .collect();
    let sides = sides(all, split);
    let built: Vec<(usize, (GraphSet, Vec<bool>))> = wanted
        .par_iter()
        .with_max_len(1)
        .map(|&(capture, copy)| Ok((capture, source.varied(training[capture].file, copy)?)))
        .collect::<Result<_>>()?;
    for (capture, (graphs, has_added)) in built {
        let windows: Vec<(f64, Side)> = (0..all.len())
            .filter(|&g| all.capture[g] as usize == capture)
            .map(|g| (all.start_s[g], sides[g]))
            .collect();
        let (mut train, mut val) = (Vec::new(), Vec::new());
        for (g, has_added) in has_added.into_iter().enumerate() {
            let is_new = graphs.label[g] != 0 || has_added || graphs.graph(g).node_id.contains(&STRANGER);
            let behind = windows.partition_point(|(start_s, _)| *start_s <= graphs.start_s[g]);
            match behind.checked_sub(1).map(|at| windows[at].1) {
                Some(Side::Train) if is_new => train.push(g as u32),
                Some(Side::Val) if is_new => val.push(g as u32),
                _ => {}
            }
        }
        added.train.append(&graphs.select(&train)?)?;
        added.val.append(&graphs.select(&val)?)?;
    }
    Ok(added)
}

#[derive(Clone, Copy)]
enum Side {
    Train,
    Val,
    Unused,
}

fn sides(all: &GraphSet, split: &Split) -> Vec<Side> {
    let mut sides = vec![Side::Unused; all.len()];
    split.train.iter().for_each(|&g| sides[g as usize] = Side::Train);
    split.val.iter().for_each(|&g| sides[g as usize] = Side::Val);
    sides
}
