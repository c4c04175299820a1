use super::super::scaling::Scaling;
use super::super::states::testing::synthetic;
use super::*;
use common::config::semantic::DqnArch;
use tch::Device;

fn config() -> FusionSemantic {
    FusionSemantic {
        arch: DqnArch { layers: 1, hidden: 32, actions: 11, dropout: 0.1 },
        lr: 3e-3,
        episodes: 30,
        samples_per_episode: 500,
        gradient_steps_per_episode: 16,
        batch_size: 64,
        gamma: 0.3,
        replay_size: 3_000,
        validate_every_episodes: 5,
        patience: 0,
        target_copy_steps: 20,
        ..Default::default()
    }
}

fn states(n: i64, share: f64) -> (States, States) {
    let raw = synthetic(n, share, 21);
    let scaling = Scaling::fit(&raw).unwrap();
    (scaling.apply(&raw, Device::Cpu), scaling.apply(&synthetic(n, share, 22), Device::Cpu))
}

fn run(learner: &mut Learner<'_>, episodes: u32) -> Vec<EpisodeNews> {
    let mut news = Vec::new();
    while news.len() < episodes as usize && !learner.finished() {
        news.push(learner.run_episode().unwrap());
    }
    news
}

fn all_benign_reward(states: &States) -> f64 {
    let labels = states.label_tensor();
    let earned = reward(&labels.zeros_like(), &labels);
    ClassWeights::balanced(states.attack_share()).mean(&earned, &labels).double_value(&[])
}

#[test]
fn the_agent_learns_which_detector_to_trust_at_every_attack_share() {
    let config = config();
    for share in [0.02, 0.1, 0.5] {
        let (train, val) = states(2_000, share);
        let mut learner = Learner::new(&config, &train, &val).unwrap();
        run(&mut learner, 30);
        let (_, best) = learner.progress().best.unwrap();
        let one_detector = |alpha: f64| {
            let (gat, anomaly) = (&val.gat_margin, &val.anomaly_margin);
            let scores = host(&fused_logit(gat, anomaly, &gat.full_like(alpha))).unwrap();
            auc(&ByTruth::of(&scores, &val.truth).unwrap().scored().unwrap()).unwrap()
        };
        let agent = best.auc.unwrap();
        assert!(agent > 0.97, "{share}: AUC {agent}");
        assert!(agent > one_detector(0.0) + 0.1 && agent > one_detector(1.0) + 0.1, "{share}");
        assert!(best.reward > all_benign_reward(&val) + 1.5, "{share}: {best:?}");
        assert!(best.f1.unwrap() > 0.9, "{share}: {best:?}");
    }
}

#[test]
fn epsilon_decays_and_draws_are_balanced() {
    let config = config();
    let (train, val) = states(1_000, 0.02);
    let mut learner = Learner::new(&config, &train, &val).unwrap();
    let attacks = train.label_tensor().index_select(0, &learner.draw(501).unwrap()).sum(Kind::Float);
    assert_eq!(f64::try_from(attacks).unwrap(), 250.0);
    let news = run(&mut learner, 3);
    let epsilon: Vec<f64> = news.iter().map(|n| n.epsilon).collect();
    assert!((epsilon[0] - 0.9).abs() < 1e-12 && (epsilon[2] - 0.9 * 0.95 * 0.95).abs() < 1e-12);
    assert_eq!(learner.epsilon(10_000), config.epsilon_end);
}

#[test]
fn patience_ends_the_run_and_zero_patience_never_does() {
    let mut config = FusionSemantic { patience: 2, validate_every_episodes: 1, lr: 0.0, ..config() };
    config.weight_decay = 0.0;
    let (train, val) = states(200, 0.3);
    let mut learner = Learner::new(&config, &train, &val).unwrap();
    // nothing is learned at rate 0: the first validation stays the best
    assert_eq!(run(&mut learner, 30).len(), 3);
    assert_eq!(learner.progress().best.unwrap().0, 1);
    config.patience = 0;
    let mut learner = Learner::new(&config, &train, &val).unwrap();
    assert_eq!(run(&mut learner, 99).len(), 30);
}

#[test]
fn a_snapshot_of_other_states_is_refused() {
    let config = config();
    let (train, val) = states(200, 0.1);
    let learner = Learner::new(&config, &train, &val).unwrap();
    let snapshot = learner.snapshot();
    let loaded = Loaded { header: snapshot.header, tensors: snapshot.tensors.into_iter().collect() };
    let (other, _) = states(300, 0.1);
    let mut foreign = Learner::new(&config, &other, &val).unwrap();
    assert!(matches!(foreign.restore(&loaded), Err(FusionError::Resume(_))));
    let mut torn = loaded;
    torn.tensors.remove("replay.reward");
    let mut learner = Learner::new(&config, &train, &val).unwrap();
    assert!(matches!(learner.restore(&torn), Err(FusionError::Resume(why)) if why.contains("replay.reward")));
}

#[test]
fn one_class_or_no_states_have_a_defined_outcome() {
    let config = FusionSemantic { episodes: 5, ..config() };
    let (benign, _) = states(100, 0.0);
    let mut learner = Learner::new(&config, &benign, &benign).unwrap();
    run(&mut learner, 5);
    let (_, best) = learner.progress().best.unwrap();
    assert_eq!((best.f1, best.auc), (None, None));
    let raw = synthetic(10, 0.5, 1);
    let none = Tensor::zeros([0, super::super::states::ROW_WIDTH], (Kind::Float, Device::Cpu));
    let empty = super::super::states::RawStates::new(&none, Vec::new()).unwrap();
    let empty = Scaling::fit(&raw).unwrap().apply(&empty, Device::Cpu);
    assert!(matches!(Learner::new(&config, &benign, &empty), Err(FusionError::NoStates("validation"))));
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_by_name() {
    let config = FusionSemantic { lr: 1e30, grad_clip: 0.0, ..config() };
    let (train, val) = states(200, 0.3);
    let mut learner = Learner::new(&config, &train, &val).unwrap();
    let error = (0..5).find_map(|_| learner.run_episode().err()).expect("a rate of 1e30 must diverge");
    assert!(matches!(error, FusionError::Diverged { .. }), "{error}");
}
