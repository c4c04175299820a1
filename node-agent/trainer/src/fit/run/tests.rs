use std::cell::{Cell, RefCell};

use common::config::semantic::{GatSemantic, Imbalance, ModelSize};
use tch::Device;

use super::*;
use crate::batch::GraphBatch;
use crate::fit::Share;
use crate::fit::listener::Silent;
use crate::fit::testing::{gat, set};
use crate::memory::Memory;
use crate::phase::gat_fit::GatTrainee;

/// A classifier whose validation losses are given, and whose training loss can be spoilt from an epoch on.
struct Scripted<'a> {
    inner: GatTrainee<'a>,
    val_losses: Vec<f64>,
    spoilt_from: Option<usize>,
    /// How many training losses are spoilt; the rest are as they should be.
    spoils_left: Cell<u32>,
    validated: Cell<usize>,
    /// Weights as they were at each validation.
    seen: RefCell<Vec<BTreeMap<String, Tensor>>>,
}

impl Trainee for Scripted<'_> {
    fn name(&self) -> &'static str {
        "gat"
    }
    fn variables(&self) -> BTreeMap<String, Tensor> {
        self.inner.variables()
    }
    fn imbalance(&self) -> Imbalance {
        self.inner.imbalance()
    }
    fn class_weight(&self) -> Option<[f32; 2]> {
        self.inner.class_weight()
    }
    fn loss(&self, chosen: &[u32], batch: &GraphBatch, share: &Share) -> Tensor {
        let loss = self.inner.loss(chosen, batch, share);
        let spoilt = self.spoilt_from.is_some_and(|epoch| self.validated.get() + 1 >= epoch);
        if !spoilt || self.spoils_left.get() == 0 {
            return loss;
        }
        self.spoils_left.set(self.spoils_left.get() - 1);
        loss * f64::NAN
    }
    fn validate(&self, _: &mut Evaluator<'_>, _: &GraphSet, _: &[u32]) -> Result<Validation, FitError> {
        let epoch = self.validated.get();
        self.validated.set(epoch + 1);
        self.seen.borrow_mut().push(deep_copy(&self.variables()));
        Ok(Validation { loss: self.val_losses[epoch], metrics: BTreeMap::new() })
    }
}

fn options(epochs: u32, patience: u32) -> FitOptions {
    FitOptions {
        semantic: FitSemantic { epochs, patience, batch_size: 4, ..FitSemantic::default() },
        seed: 1,
        device: Device::Cpu,
        micro_batch: 64,
        memory: Memory::unwatched(),
        checkpoint_every: None,
        eval_batch: 64,
        checkpoint_every_epochs: 1,
    }
}

fn same(a: &BTreeMap<String, Tensor>, b: &BTreeMap<String, Tensor>) -> bool {
    a.len() == b.len() && a.iter().all(|(name, tensor)| tensor.equal(&b[name]))
}

#[test]
fn the_best_epoch_is_kept_and_patience_ends_the_fit() {
    let (gat, set) = (gat(), set(12));
    let pool: Vec<u32> = (0..12).collect();
    let inner = GatTrainee::new(&gat, &GatSemantic::of_size(ModelSize::Small), &set.label, None);
    let val_losses = vec![1.0, 0.5, 0.9, 0.6, 0.1];
    let scripted = Scripted {
        inner,
        val_losses,
        spoilt_from: None,
        spoils_left: Cell::new(0),
        validated: Cell::new(0),
        seen: RefCell::default(),
    };
    let dir = tempfile::tempdir().unwrap();
    let mut progress = PhaseProgress::open(dir.path(), "f".to_owned(), None).unwrap();
    let data = TrainData { train: &set, train_pool: &pool, val: &set, val_pool: &pool };
    let summary = fit(&scripted, data, &options(5, 2), &mut progress, &mut Silent).unwrap();
    assert_eq!((summary.epochs_run, summary.best_epoch, summary.best_loss), (4, 2, 0.5));
    let seen = scripted.seen.borrow();
    assert!(same(&scripted.variables(), &seen[1]), "the model must hold epoch 2");
    assert!(!same(&seen[1], &seen[3]), "training went on after it");
}

#[test]
fn a_loss_that_is_no_number_ends_the_fit_and_leaves_the_last_checkpoint() {
    let (gat, set) = (gat(), set(12));
    let pool: Vec<u32> = (0..12).collect();
    let inner = GatTrainee::new(&gat, &GatSemantic::of_size(ModelSize::Small), &set.label, None);
    let scripted = Scripted {
        inner,
        val_losses: vec![1.0; 5],
        spoilt_from: Some(3),
        spoils_left: Cell::new(u32::MAX),
        validated: Cell::new(0),
        seen: RefCell::default(),
    };
    let dir = tempfile::tempdir().unwrap();
    let mut progress = PhaseProgress::open(dir.path(), "f".to_owned(), None).unwrap();
    let data = TrainData { train: &set, train_pool: &pool, val: &set, val_pool: &pool };
    let refused = fit(&scripted, data, &options(5, 0), &mut progress, &mut Silent);
    assert!(matches!(refused, Err(FitError::Diverged { model: "gat", epoch: 3, .. })), "{refused:?}");

    let newest = dir.path().join("2");
    let mut after = PhaseProgress::open(&dir.path().join("new"), "f".to_owned(), Some(&newest)).unwrap();
    let running = after.take_running("gat").expect("the checkpoint of epoch 2 is whole");
    assert_eq!(running.state.epoch, 3);
    assert!(same(&running.now, &scripted.seen.borrow()[1]));

    let mut foreign = PhaseProgress::open(&dir.path().join("other"), "g".to_owned(), Some(&newest)).unwrap();
    assert!(foreign.take_running("gat").is_none(), "a checkpoint of another job was taken");
}

/// Asks to stop, with a checkpoint, while the given epoch is validated.
struct StopInValidation {
    epoch: u32,
    heard: bool,
    checkpoints: u32,
}

impl Listener for StopInValidation {
    fn stage(&mut self, _: common::trainer_protocol::Stage) {}
    fn epoch(&mut self, report: &mut dyn FnMut() -> EpochReport, last_of_epoch: bool) {
        let report = report();
        self.heard |= report.epoch == self.epoch && report.fraction == 1.0 && !last_of_epoch;
    }
    fn batch_adjusted(&mut self, _: u32, _: u32, _: u32, _: &str) {}
    fn out_of_memory(&mut self, _: u32, _: bool, _: &str) {}
    fn checkpoint(&mut self, _: &std::path::Path, _: &str, _: u32) {
        self.checkpoints += 1;
    }
    fn stop_requested(&self) -> Option<crate::fit::StopRequest> {
        self.heard.then(|| crate::fit::StopRequest { reason: "test".to_owned(), checkpoint: true })
    }
}

#[test]
fn a_stop_during_validation_is_heard_and_nothing_of_the_epoch_is_lost() {
    let set = set(12);
    let pool: Vec<u32> = (0..12).collect();
    let data = TrainData { train: &set, train_pool: &pool, val: &set, val_pool: &pool };
    let semantic = GatSemantic::of_size(ModelSize::Small);
    let options = FitOptions { checkpoint_every_epochs: 0, ..options(3, 0) };
    let start = deep_copy(&crate::fit::trainee::named(&gat().store));
    let from_start = || {
        let gat = gat();
        copy_into(&crate::fit::trainee::named(&gat.store), &start).unwrap();
        gat
    };
    let dir = tempfile::tempdir().unwrap();
    let open = |name: &str, from: Option<&std::path::Path>| {
        PhaseProgress::open(&dir.path().join(name), "f".to_owned(), from).unwrap()
    };
    let whole = from_start();
    let trainee = GatTrainee::new(&whole, &semantic, &set.label, None);
    let expected = fit(&trainee, data, &options, &mut open("a", None), &mut Silent).unwrap();

    let cut = from_start();
    let trainee = GatTrainee::new(&cut, &semantic, &set.label, None);
    let mut listener = StopInValidation { epoch: 2, heard: false, checkpoints: 0 };
    let stopped = fit(&trainee, data, &options, &mut open("b", None), &mut listener);
    assert!(matches!(stopped, Err(FitError::Stopped { .. })), "{stopped:?}");
    assert_eq!(listener.checkpoints, 1);

    let resumed = from_start();
    let trainee = GatTrainee::new(&resumed, &semantic, &set.label, None);
    let mut progress = open("c", Some(&dir.path().join("b/1")));
    let summary = fit(&trainee, data, &options, &mut progress, &mut Silent).unwrap();
    assert_eq!(summary, expected);
    assert!(same(&trainee.variables(), &crate::fit::trainee::named(&whole.store)));
}

/// With a checkpoint after each step, any of which a fit can go on from: weights, history and the best epoch are
/// those of one that nothing happened to.
#[test]
fn checkpoints_within_an_epoch_lead_to_the_same_end() {
    let set = set(12);
    let pool: Vec<u32> = (0..12).collect();
    // Without validation the sums of training losses decide, which must be rounded alike.
    let data = TrainData { train: &set, train_pool: &pool, val: &set, val_pool: &[] };
    let semantic = GatSemantic::of_size(ModelSize::Small);
    let start = deep_copy(&crate::fit::trainee::named(&gat().store));
    let dir = tempfile::tempdir().unwrap();
    let run = |name: &str, from: Option<&std::path::Path>, checkpoint_every: Option<Duration>| {
        let gat = gat();
        copy_into(&crate::fit::trainee::named(&gat.store), &start).unwrap();
        let trainee = GatTrainee::new(&gat, &semantic, &set.label, None);
        let options = FitOptions { checkpoint_every_epochs: 0, checkpoint_every, ..options(2, 0) };
        let mut progress = PhaseProgress::open(&dir.path().join(name), "f".to_owned(), from).unwrap();
        let resumes = progress.resume_epoch();
        let summary = fit(&trainee, data, &options, &mut progress, &mut Silent).unwrap();
        (summary, deep_copy(&trainee.variables()), resumes)
    };
    let (expected, weights, _) = run("whole", None, None);
    let (summary, same_weights, _) = run("saved", None, Some(Duration::ZERO));
    assert_eq!(summary, expected);
    assert!(same(&weights, &same_weights));
    let mut within = 0;
    for newest in std::fs::read_dir(dir.path().join("saved")).unwrap() {
        let newest = newest.unwrap().path();
        let name = format!("after-{}", newest.file_name().unwrap().to_string_lossy());
        let (summary, resumed, epoch) = run(&name, Some(&newest), None);
        within += u32::from(epoch.is_some());
        assert_eq!(summary, expected, "{}", newest.display());
        assert!(same(&weights, &resumed), "{}", newest.display());
    }
    assert!(within > 0, "no checkpoint within an epoch was kept");
}

#[test]
fn without_a_validation_window_the_training_loss_is_watched_and_not_called_val() {
    let (gat, set) = (gat(), set(12));
    let pool: Vec<u32> = (0..12).collect();
    let trainee = GatTrainee::new(&gat, &GatSemantic::of_size(ModelSize::Small), &set.label, None);
    let data = TrainData { train: &set, train_pool: &pool, val: &set, val_pool: &[] };
    struct Keeper(Vec<EpochReport>);
    impl Listener for Keeper {
        fn stage(&mut self, _: common::trainer_protocol::Stage) {}
        fn epoch(&mut self, report: &mut dyn FnMut() -> EpochReport, _: bool) {
            self.0.push(report());
        }
        fn batch_adjusted(&mut self, _: u32, _: u32, _: u32, _: &str) {}
        fn out_of_memory(&mut self, _: u32, _: bool, _: &str) {}
        fn checkpoint(&mut self, _: &std::path::Path, _: &str, _: u32) {}
        fn stop_requested(&self) -> Option<crate::fit::StopRequest> {
            None
        }
    }
    let mut keeper = Keeper(Vec::new());
    let dir = tempfile::tempdir().unwrap();
    let mut progress = PhaseProgress::open(dir.path(), "f".to_owned(), None).unwrap();
    let summary = fit(&trainee, data, &options(2, 0), &mut progress, &mut keeper).unwrap();
    assert!(summary.history.iter().all(|(train, watched)| train == watched));
    assert!(!keeper.0.is_empty() && keeper.0.iter().all(|r| !r.metrics.contains_key("val_loss")));
}

#[test]
fn a_loss_that_is_no_number_once_is_answered_with_a_lower_rate_from_the_last_good_epoch() {
    let (gat, set) = (gat(), set(12));
    let pool: Vec<u32> = (0..12).collect();
    let scripted = Scripted {
        inner: GatTrainee::new(&gat, &GatSemantic::of_size(ModelSize::Small), &set.label, None),
        val_losses: vec![1.0, 0.8, 0.6, 0.4],
        spoilt_from: Some(3),
        spoils_left: Cell::new(1),
        validated: Cell::new(0),
        seen: RefCell::default(),
    };
    let dir = tempfile::tempdir().unwrap();
    let mut progress = PhaseProgress::open(dir.path(), "f".to_owned(), None).unwrap();
    let data = TrainData { train: &set, train_pool: &pool, val: &set, val_pool: &pool };
    let summary = fit(&scripted, data, &options(4, 0), &mut progress, &mut Silent).unwrap();
    assert_eq!((summary.epochs_run, summary.best_epoch, summary.lr_factor), (4, 4, 0.1));
    assert!(summary.history.iter().all(|(loss, _)| loss.is_finite()));
    let all_finite = |weights: &BTreeMap<String, Tensor>| {
        weights.values().all(|tensor| tensor.isfinite().all().int64_value(&[]) == 1)
    };
    assert!(scripted.seen.borrow().iter().all(all_finite));

    // Not where the configuration says no.
    let mut strict = options(4, 0);
    strict.semantic.diverged_lr_factor = 0.0;
    scripted.validated.set(2);
    scripted.spoils_left.set(1);
    let mut progress = PhaseProgress::open(&dir.path().join("strict"), "f".to_owned(), None).unwrap();
    let refused = fit(&scripted, data, &strict, &mut progress, &mut Silent);
    assert!(matches!(refused, Err(FitError::Diverged { epoch: 1, .. })), "{refused:?}");
}
