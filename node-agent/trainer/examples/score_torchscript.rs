//! Scores windows with a student and a fusion agent as TorchScript: `tch` and nothing of this crate.
//!
//! `cargo run -p trainer --example score_torchscript final_student_model_X.pt fusion_agent_X.pt THRESHOLD`, the
//! threshold being the fusion's (`threshold.value` in its `model.json`; Python reads it as `agent.threshold`).

use tch::{CModule, Device, Kind, Tensor};

fn main() -> Result<(), tch::TchError> {
    let files: Vec<String> = std::env::args().skip(1).collect();
    let [student, agent, threshold] = &files[..] else {
        panic!("give the student's .pt, the agent's, a threshold")
    };
    let (student, agent) = (CModule::load(student)?, CModule::load(agent)?);
    // Two windows of three and two ids: which, their ten numbers, the transitions, the window of each node.
    let ids = Tensor::from_slice(&[0i64, 1, 2, 0, 1]);
    let x = Tensor::rand([5, 10], (Kind::Float, Device::Cpu));
    let (src, dst) = (Tensor::from_slice(&[0i64, 1, 2, 3, 4]), Tensor::from_slice(&[1i64, 2, 0, 4, 3]));
    let rows = student.forward_ts(&[ids, x, src, dst, Tensor::from_slice(&[0i64, 0, 0, 1, 1])])?;
    let fused: Vec<f32> = Vec::try_from(&agent.forward_ts(&[rows])?)?;
    let threshold: f64 = threshold.parse().expect("the threshold is a number");
    for (window, score) in fused.iter().enumerate() {
        println!("window {window}: attack {}, score {score:.3}", f64::from(*score) > threshold);
    }
    Ok(())
}
