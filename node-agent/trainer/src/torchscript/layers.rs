//! Layers as lines. Names of variables: `src`, `dst` (edges of convolutions), `graph`, `n` nodes, `g` graphs.

use super::program::Program;

/// Lines that every program over graphs begins with, from the arguments `node_id`, `transition_src`,
/// `transition_dst`, `graph`: edges without captured self-loops and with one per node.
pub fn graph_lines(program: &mut Program) {
    program.let_("n", "torch.size(node_id, 0)");
    program.let_("g", "torch.add(int(torch.max(graph)), 1)");
    program.let_("nodes", "torch.cumsum(torch.ones_like(node_id), 0)");
    program.let_("loops", "torch.sub(nodes, 1)");
    program.let_("proper", "torch.ne(transition_src, transition_dst)");
    program.let_("src", "torch.cat([torch.masked_select(transition_src, proper), loops])");
    program.let_("dst", "torch.cat([torch.masked_select(transition_dst, proper), loops])");
    program.let_("ones", "torch.new_ones(x, [n])");
    program.let_("sizes", "torch.index_add(torch.new_zeros(x, [g]), 0, graph, ones)");
}

/// `out` = graph attention of `input` with the weights under the attribute prefix `weights`.
pub fn conv(program: &mut Program, out: &str, input: &str, weights: &str, heads: u32, channels: u32) {
    let width = heads * channels;
    program.let_("h", format!("torch.linear({input}, self.{weights}_lin_weight)"));
    program.let_("h", format!("torch.view(h, [-1, {heads}, {channels}])"));
    program.let_("from_", format!("torch.sum(torch.mul(h, self.{weights}_att_src), [-1])"));
    program.let_("to_", format!("torch.sum(torch.mul(h, self.{weights}_att_dst), [-1])"));
    program.let_("e", "torch.add(torch.index_select(from_, 0, src), torch.index_select(to_, 0, dst))");
    program.let_("e", "torch.leaky_relu(e, 0.2)");
    program.let_("at", "torch.expand_as(torch.unsqueeze(dst, 1), e)");
    program.let_("top", format!("torch.new_zeros(x, [n, {heads}])"));
    program.let_("top", "torch.scatter_reduce(top, 0, at, e, \"amax\", include_self=False)");
    program.let_("e", "torch.exp(torch.sub(e, torch.index_select(top, 0, dst)))");
    program.let_("total", format!("torch.index_add(torch.new_zeros(x, [n, {heads}]), 0, dst, e)"));
    program.let_("alpha", "torch.div(e, torch.index_select(torch.add(total, 1e-16), 0, dst))");
    program.let_("sent", "torch.mul(torch.index_select(h, 0, src), torch.unsqueeze(alpha, -1))");
    program.let_("sent", format!("torch.view(sent, [-1, {width}])"));
    program.let_(out, format!("torch.index_add(torch.new_zeros(x, [n, {width}]), 0, dst, sent)"));
    program.let_(out, format!("torch.add({out}, self.{weights}_bias)"));
}

/// `name` normalised by running statistics, in place of itself.
pub fn batch_norm(program: &mut Program, name: &str, weights: &str) {
    let parts =
        ["weight", "bias", "running_mean", "running_var"].map(|part| format!("self.{weights}_{part}"));
    let call = format!("torch.batch_norm({name}, {}, False, 0.1, 1e-05, False)", parts.join(", "));
    program.let_(name, call);
}

/// `out` = a linear layer of `input`.
pub fn linear(program: &mut Program, out: &str, input: &str, weights: &str) {
    program.let_(out, format!("torch.linear({input}, self.{weights}_weight, self.{weights}_bias)"));
}

/// `out` = mean by graph of `[n]` values.
pub fn mean(program: &mut Program, out: &str, values: &str) {
    let sum = format!("torch.index_add(torch.new_zeros(x, [g]), 0, graph, {values})");
    program.let_(out, format!("torch.div({sum}, sizes)"));
}

/// `out` = extremum by graph of `[n]` values; `reduce` is `amax` or `amin`.
pub fn extremum(program: &mut Program, out: &str, values: &str, reduce: &str) {
    let zeros = "torch.new_zeros(x, [g])";
    let call = format!("torch.scatter_reduce({zeros}, 0, graph, {values}, \"{reduce}\", include_self=False)");
    program.let_(out, call);
}
