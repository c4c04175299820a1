//! A pair of detectors as a program: graphs in, scores and fusion states out.

use std::path::Path;

use super::layers::{batch_norm, conv, extremum, graph_lines, linear, mean};
use super::program::Program;
use crate::fit::trainee::named;
use crate::nn::gat::Gat;
use crate::nn::vgae::Vgae;
use crate::phase::anomaly::AnomalyScale;
use crate::phase::fusion::states::ROW_WIDTH;
use crate::pth::PthError;

/// Columns of a row: the GAT's margin, the anomaly score, and the 15 numbers of a fusion state.
pub const ROW_COLUMNS: i64 = ROW_WIDTH + 1;

/// Writes a pair. Its `forward` takes `node_id` i64 `[N]`, `x` f32 `[N, 10]`, transitions `src` and `dst` i64
/// `[M]`, `graph` i64 `[N]` (ascending from 0) and gives f32 `[G, 17]`. A window is an attack by the GAT iff
/// column 0 is above the attribute `gat_threshold`, by the VGAE iff column 1 is above `vgae_threshold`.
///
/// # Errors
/// `Io`/`Zip` when the disk refuses.
pub fn write_pair(
    path: &Path,
    vgae: &Vgae,
    gat: &Gat,
    scale: &AnomalyScale,
    [gat_threshold, vgae_threshold]: [f64; 2],
) -> Result<(), PthError> {
    let mut program = Program::new(
        "node_id: Tensor,\n    x: Tensor,\n    transition_src: Tensor,\n    transition_dst: Tensor,\n    \
         graph: Tensor",
    );
    program.weights("gat", &named(&gat.store));
    program.weights("vgae", &named(&vgae.store));
    program.number("gat_threshold", gat_threshold);
    program.number("vgae_threshold", vgae_threshold);
    graph_lines(&mut program);
    gat_lines(&mut program, gat);
    vgae_lines(&mut program, vgae);
    let terms = ["mse", "bce", "ce"].iter().zip(scale.weights).enumerate();
    let terms: Vec<String> = terms
        .map(|(k, (name, weight))| {
            let (mean, std) = (scale.mean[k], scale.std[k]);
            format!("torch.mul(torch.div(torch.sub({name}, {mean:?}), {std:?}), {weight:?})")
        })
        .collect();
    program.let_("anomaly", format!("torch.add(torch.add({}, {}), {})", terms[0], terms[1], terms[2]));
    program.let_(
        "rows",
        "torch.stack([margin, anomaly, mse, bce, ce, z_mean, z_std, z_max, z_min, vgae_sure, p0, p1, e_mean, \
         e_std, e_max, e_min, gat_sure], 1)",
    );
    program.write(path, "rows")
}

fn input(program: &mut Program, model: &str) {
    let table = format!("torch.index_select(self.{model}_id_embedding_weight, 0, node_id)");
    program.let_("y", format!("torch.cat([{table}, x], 1)"));
}

fn gat_lines(program: &mut Program, gat: &Gat) {
    let arch = &gat.arch;
    input(program, "gat");
    let width = arch.heads * arch.hidden;
    for layer in 0..arch.layers {
        conv(program, "y", "y", &format!("gat_convs_{layer}"), arch.heads, arch.hidden);
        program.let_("y", "torch.relu(y)");
        let sum = format!("torch.index_add(torch.new_zeros(x, [g, {width}]), 0, graph, y)");
        program.let_(&format!("pooled{layer}"), format!("torch.div({sum}, torch.unsqueeze(sizes, 1))"));
    }
    let all: Vec<String> = (0..arch.layers).map(|layer| format!("pooled{layer}")).collect();
    program.let_("embedding", format!("torch.cat([{}], 1)", all.join(", ")));
    program.let_("y", "embedding");
    let last = arch.fc_layers.saturating_sub(1);
    for layer in 0..=last {
        linear(program, "y", "y", &format!("gat_fc_layers_{}", 3 * layer));
        if layer < last {
            program.let_("y", "torch.relu(y)");
        }
    }
    program.let_("margin", "torch.sub(torch.select(y, 1, 1), torch.select(y, 1, 0))");
    program.let_("p", "torch.softmax(y, -1)");
    program.let_("p0", "torch.select(p, 1, 0)");
    program.let_("p1", "torch.select(p, 1, 1)");
    program.let_("entropy", "torch.sum(torch.mul(p, torch.log(torch.clamp(p, 1e-12))), [1])");
    let sure = format!("torch.add(torch.div(entropy, {:?}), 1.)", std::f64::consts::LN_2);
    program.let_("gat_sure", format!("torch.clamp({sure}, 0., 1.)"));
    program.let_("e_mean", "torch.mean(embedding, [1])");
    program.let_("e_std", "torch.std(embedding, [1], True)");
    program.let_("e_max", "torch.amax(embedding, [1])");
    program.let_("e_min", "torch.amin(embedding, [1])");
}

fn vgae_lines(program: &mut Program, vgae: &Vgae) {
    let arch = &vgae.arch;
    input(program, "vgae");
    for (side, layers) in [("encoder", &arch.encoder), ("decoder", &arch.decoder)] {
        if side == "decoder" {
            linear(program, "z", "y", "vgae_z_mean");
            program.let_("y", "z");
        }
        for (i, layer) in layers.iter().enumerate() {
            conv(program, "y", "y", &format!("vgae_{side}_layers_{i}"), layer.heads, layer.width);
            batch_norm(program, "y", &format!("vgae_{side}_bns_{i}"));
            program.let_("y", "torch.relu(y)");
        }
    }
    let out = format!("vgae_decoder_layers_{}", arch.decoder.len());
    conv(program, "y", "y", &out, 1, crate::batch::NODE_FEATURES as u32);
    program.let_("off", "torch.sub(torch.sigmoid(y), x)");
    program.let_("by_node", "torch.mean(torch.mul(off, off), [1])");
    mean(program, "mse", "by_node");
    neighbourhood_lines(program);
    linear(program, "logits", "z", "vgae_canid_classifier");
    program.let_("own", "torch.unsqueeze(node_id, 1)");
    program.let_("by_node", "torch.squeeze(torch.gather(torch.log_softmax(logits, -1), 1, own), 1)");
    mean(program, "ce", "torch.neg(by_node)");
    program.let_("vgae_sure", "torch.clamp(torch.reciprocal(torch.add(mse, 1.)), 0., 1.)");
    mean(program, "z_mean", "torch.mean(z, [1])");
    program.let_("off", "torch.sub(z, torch.unsqueeze(torch.index_select(z_mean, 0, graph), 1))");
    program.let_("squares", "torch.sum(torch.mul(off, off), [1])");
    program.let_("squares", "torch.index_add(torch.new_zeros(x, [g]), 0, graph, squares)");
    let freedom = format!("torch.clamp(torch.sub(torch.mul(sizes, {}), 1.), 1.)", arch.latent);
    program.let_("z_std", format!("torch.sqrt(torch.div(squares, {freedom}))"));
    extremum(program, "z_max", "torch.amax(z, [1])", "amax");
    extremum(program, "z_min", "torch.amin(z, [1])", "amin");
}

fn neighbourhood_lines(program: &mut Program) {
    program.let_("hidden", "z");
    for place in [0, 3] {
        linear(program, "hidden", "hidden", &format!("vgae_neighborhood_decoder_{place}"));
        program.let_("hidden", "torch.relu(hidden)");
    }
    linear(program, "logits", "hidden", "vgae_neighborhood_decoder_6");
    // Each id that a node leads to once, however many nodes stand for it.
    program.let_("next_id", "torch.index_select(node_id, 0, transition_dst)");
    program.let_("places", "torch.add(torch.mul(transition_src, torch.size(logits, 1)), next_id)");
    program.let_("hits", "torch.scatter(torch.new_zeros(x, [torch.numel(logits)]), 0, places, 1.)");
    program.let_("hits", "torch.mul(torch.reshape(hits, [n, torch.size(logits, 1)]), logits)");
    program.let_("by_node", "torch.sum(torch.sub(torch.softplus(logits), hits), [1])");
    program.let_("by_node", "torch.div(by_node, torch.size(logits, 1))");
    mean(program, "bce", "by_node");
}
