//! A fusion run that was cut and resumed ends with the bytes of one that was not. Alone in its process:
//! torch's generator is one for all threads, so tests beside it would draw from it in between.

use common::config::semantic::{DqnArch, FusionSemantic};
use tch::{Device, Kind, Tensor};
use trainer::checkpoint::CheckpointFolder;
use trainer::phase::fusion::learn::{FusionProgress, Learner};
use trainer::phase::fusion::scaling::{Scaling, States};
use trainer::phase::fusion::states::{ROW_WIDTH, RawStates};

fn states(n: i64) -> (States, States) {
    let rows = Tensor::rand([n, ROW_WIDTH], (Kind::Float, Device::Cpu));
    let truth = (0..n).map(|i| Some(u8::from(i % 7 == 0))).collect();
    let raw = RawStates::new(&rows, truth).unwrap();
    let scaling = Scaling::fit(&raw).unwrap();
    (scaling.apply(&raw, Device::Cpu), scaling.apply(&raw, Device::Cpu))
}

fn run(learner: &mut Learner<'_>, episodes: u32) {
    for _ in 0..episodes {
        learner.run_episode().unwrap();
    }
}

fn weights_of(learner: &Learner<'_>) -> Vec<(String, Tensor)> {
    learner.snapshot().tensors.into_iter().map(|(name, tensor)| (name, tensor.copy())).collect()
}

#[test]
fn a_resumed_run_ends_with_the_same_bytes() {
    trainer::runtime::init();
    tch::set_num_threads(1);
    tch::manual_seed(1);
    let config = FusionSemantic {
        arch: DqnArch { layers: 2, hidden: 24, actions: 11, dropout: 0.2 },
        episodes: 9,
        samples_per_episode: 300,
        gradient_steps_per_episode: 10,
        batch_size: 32,
        replay_size: 1_000,
        validate_every_episodes: 2,
        target_copy_steps: 7,
        patience: 0,
        ..Default::default()
    };
    let (train, val) = states(500);
    let mut whole = Learner::new(&config, &train, &val).unwrap();
    run(&mut whole, 9);

    let dir = tempfile::tempdir().unwrap();
    let folder = CheckpointFolder::open(dir.path()).unwrap();
    let mut first = Learner::new(&config, &train, &val).unwrap();
    run(&mut first, 5);
    folder.write(&first.snapshot()).unwrap();
    drop(first);
    // whatever else drew from the generator in between must not matter
    let _ = Tensor::rand([17], (Kind::Float, Device::Cpu));
    let (_, loaded) = folder.newest_whole::<FusionProgress>().unwrap().found.unwrap();
    let mut second = Learner::new(&config, &train, &val).unwrap();
    second.restore(&loaded).unwrap();
    assert!(!second.finished());
    run(&mut second, 4);

    assert!(second.finished());
    assert_eq!(whole.progress(), second.progress());
    let (whole, second) = (weights_of(&whole), weights_of(&second));
    assert_eq!(whole.len(), second.len());
    for ((name, a), (other, b)) in whole.into_iter().zip(second) {
        assert_eq!(name, other);
        assert_eq!(a, b, "{name}");
    }
}
