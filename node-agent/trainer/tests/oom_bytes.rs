//! A step that ran out of memory leaves no trace but the smaller micro-batch: a fit whose first try fails ends
//! with the bytes of one that was given that micro-batch from the start. Alone in its process: torch's
//! generator is one for all threads.

use std::cell::Cell;
use std::collections::BTreeMap;

use common::config::semantic::{FitSemantic, Imbalance, ModelSize, VgaeSemantic};
use dataset::graph_set::GraphView;
use dataset::{AttackKind, CaptureInfo, ContentDigest, GraphSet};
use tch::{Device, Tensor};
use trainer::batch::GraphBatch;
use trainer::fit::listener::Silent;
use trainer::fit::progress::PhaseProgress;
use trainer::fit::trainee::deep_copy;
use trainer::fit::{
    Evaluator, FitError, FitOptions, FitSummary, Share, TrainData, Trainee, Validation, fit, seed,
};
use trainer::memory::Memory;
use trainer::nn::vgae::Vgae;
use trainer::phase::vgae_fit::VgaeTrainee;

const NUM_IDS: i64 = 9;

/// Ring graphs of differing sizes.
fn set(n: usize) -> GraphSet {
    let mut set = GraphSet::empty(false);
    set.captures.push(CaptureInfo {
        folder: "train".to_owned(),
        name: "made".to_owned(),
        attack_kind: AttackKind::Dos,
        sha256: ContentDigest::of(b"made"),
        has_labels: true,
    });
    for graph in 0..n {
        let nodes = 3 + graph % 5;
        let x: Vec<f32> = (0..nodes * 10).map(|i| ((i * 7 + graph * 3) % 11) as f32 / 11.0).collect();
        let node_id: Vec<u32> = (0..nodes as u32).collect();
        let src: Vec<u16> = (0..nodes as u16).collect();
        let dst: Vec<u16> = (0..nodes as u16).map(|i| (i + 1) % nodes as u16).collect();
        let (node_id, x, edge_src, edge_dst) = (&node_id[..], &x[..], &src[..], &dst[..]);
        let view =
            GraphView { node_id, x, edge_src, edge_dst, edge_attr: None, label: 0, capture: 0, start_s: 0.0 };
        set.push(view).unwrap();
    }
    set
}

/// Runs out of memory above a number of graphs, after the forward pass has moved running statistics and drawn
/// from the generator.
struct Cramped<'a> {
    inner: VgaeTrainee<'a>,
    holds: i64,
    refused: Cell<u32>,
}

impl Trainee for Cramped<'_> {
    fn name(&self) -> &'static str {
        self.inner.name()
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
        if batch.n_graphs > self.holds {
            self.refused.set(self.refused.get() + 1);
            panic!("CUDA out of memory. Tried to allocate 1.00 GiB");
        }
        loss
    }
    fn validate(
        &self,
        evaluator: &mut Evaluator<'_>,
        set: &GraphSet,
        pool: &[u32],
    ) -> Result<Validation, FitError> {
        self.inner.validate(evaluator, set, pool)
    }
}

/// Weights and running statistics in the end, the summary, and how often memory ran out.
fn train(set: &GraphSet, micro_batch: u32, holds: i64) -> (BTreeMap<String, Tensor>, FitSummary, u32) {
    let semantic = VgaeSemantic::of_size(ModelSize::Small);
    seed::seed_torch(1, "vgae.init", &[]);
    let vgae = Vgae::new(&semantic.arch, NUM_IDS, Device::Cpu);
    let inner = VgaeTrainee::new(&vgae, &semantic, None);
    let cramped = Cramped { inner, holds, refused: Cell::new(0) };
    let options = FitOptions {
        semantic: FitSemantic { epochs: 2, batch_size: 16, ..FitSemantic::default() },
        seed: 1,
        device: Device::Cpu,
        micro_batch,
        memory: Memory::unwatched(),
        checkpoint_every: None,
        eval_batch: 64,
        checkpoint_every_epochs: 0,
    };
    let pool: Vec<u32> = (0..set.len() as u32).collect();
    let data = TrainData { train: set, train_pool: &pool, val: set, val_pool: &pool };
    let dir = tempfile::tempdir().unwrap();
    let mut progress = PhaseProgress::open(dir.path(), "f".to_owned(), None).unwrap();
    let summary = fit(&cramped, data, &options, &mut progress, &mut Silent).unwrap();
    (deep_copy(&cramped.variables()), summary, cramped.refused.get())
}

#[test]
fn a_repeated_step_leaves_the_bytes_of_one_that_fitted_at_once() {
    trainer::runtime::init();
    tch::set_num_threads(1);
    let set = set(40);
    let (after_oom, summary, refused) = train(&set, 16, 8);
    assert_eq!((refused, summary.micro_batch), (1, 8));
    let (straight, expected, never) = train(&set, 8, 8);
    assert_eq!(never, 0);
    assert_eq!(summary, expected);
    assert!(straight.keys().any(|name| name.ends_with("running_mean")));
    for (name, tensor) in &straight {
        assert_eq!(tensor, &after_oom[name], "{name}");
    }
    let (roomy, ..) = train(&set, 16, 16);
    let differs = roomy.iter().any(|(name, tensor)| tensor != &straight[name]);
    assert!(differs, "the micro-batch should show: if it does not, the doc of `fit` may claim more");
}
