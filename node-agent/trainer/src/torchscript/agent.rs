//! The fusion agent as a program: the rows of a pair in, fused scores out.

use std::path::Path;

use super::layers::linear;
use super::program::Program;
use crate::fit::trainee::named;
use crate::nn::qnet::QNet;
use crate::phase::fusion::scaling::{ANOMALY_MIDPOINT, STATE_LIMIT, Scaling};
use crate::pth::PthError;

/// Writes the agent. Its `forward` takes the rows of a pair's program, f32 `[G, 17]`, and gives the logit of the
/// fused score, f32 `[G]`: an attack iff it is above the attribute `threshold`.
///
/// # Errors
/// `Io`/`Zip` when the disk refuses.
pub fn write_agent(path: &Path, net: &QNet, scaling: &Scaling, threshold: f64) -> Result<(), PthError> {
    let mut program = Program::new("rows: Tensor");
    program.weights("dqn", &named(&net.store));
    let scales: Vec<_> = scaling.tensors();
    program.weights("scaling", scales.iter().map(|(name, tensor)| (name, tensor)));
    program.number("threshold", threshold);
    program.let_("margin", "torch.to(torch.select(rows, 1, 0), 7)");
    program.let_("states", "torch.slice(rows, 1, 2)");
    program.let_("x", "torch.div(torch.sub(states, self.scaling_state_mean), self.scaling_state_std)");
    program.let_("x", format!("torch.clamp(x, {:?}, {STATE_LIMIT:?})", -STATE_LIMIT));
    for layer in 0..net.arch.layers {
        linear(&mut program, "x", "x", &format!("dqn_net_{}", 4 * layer));
        let norm = format!("dqn_net_{}", 4 * layer + 1);
        let hidden = net.arch.hidden;
        program.let_(
            "x",
            format!("torch.layer_norm(x, [{hidden}], self.{norm}_weight, self.{norm}_bias, 1e-05, False)"),
        );
        program.let_("x", "torch.relu(x)");
    }
    linear(&mut program, "x", "x", &format!("dqn_net_{}", 4 * net.arch.layers));
    let steps = f64::from(net.arch.actions.max(2) - 1);
    program.let_("alpha", format!("torch.div(torch.to(torch.argmax(x, 1), 7), {steps:?})"));
    program.let_("errors", "torch.to(torch.slice(rows, 1, 2, 5), 7)");
    program.let_("off", "torch.sub(errors, self.scaling_error_mean)");
    program.let_("off", "torch.div(off, self.scaling_error_std)");
    let terms =
        [0, 1, 2].map(|k| format!("torch.mul(torch.select(off, 1, {k}), {:?})", scaling.anomaly.weights[k]));
    program.let_("deviation", format!("torch.add(torch.add({}, {}), {})", terms[0], terms[1], terms[2]));
    program.let_("deviation", format!("torch.sub(deviation, {ANOMALY_MIDPOINT:?})"));
    program.let_("rest", "torch.log(torch.rsub(alpha, 1.))");
    program.let_("alpha", "torch.log(alpha)");
    for (side, sign) in [("yes", "1."), ("no", "-1.")] {
        let part = |score: &str| format!("torch.log_sigmoid(torch.mul({score}, {sign}))");
        program.let_("a", format!("torch.add(alpha, {})", part("margin")));
        program.let_("b", format!("torch.add(rest, {})", part("deviation")));
        program.let_(side, "torch.logaddexp(a, b)");
    }
    program.let_("fused", "torch.to(torch.sub(yes, no), 6)");
    program.write(path, "fused")
}
