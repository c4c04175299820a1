//! The auto-encoder in training, alone or with a teacher.

use std::collections::BTreeMap;

use common::config::semantic::{Imbalance, KdSemantic, VgaeSemantic};
use dataset::GraphSet;
use tch::nn::VarStore;
use tch::{Kind, Tensor};

use crate::batch::GraphBatch;
use crate::fit::loader::Loader;
use crate::fit::{FitError, Share, Trainee, Validation, trainee};
use crate::nn::init::Linear;
use crate::nn::vgae::Vgae;
use crate::objective::kd::{VgaeTargets, imitation_loss, mix};
use crate::objective::vgae::VgaePass;

/// Most that the teacher's outputs on the training set may take; beyond it they are computed batch by batch.
const CACHE_MAX_BYTES: i64 = 512 << 20;

/// What a VGAE student imitates.
#[derive(Debug)]
pub struct VgaeTeaching<'a> {
    pub kd: &'a KdSemantic,
    teacher: &'a Vgae,
    /// Trained linear map from the student's latent width to the teacher's; not part of the student.
    projection: Linear,
    store: VarStore,
    cache: Option<Cache<'a>>,
}

/// The teacher's outputs of all nodes of the training set.
#[derive(Debug)]
struct Cache<'a> {
    set: &'a GraphSet,
    targets: VgaeTargets,
}

impl<'a> VgaeTeaching<'a> {
    /// Evaluates the teacher (evaluation mode, posterior mean) over the training set once, if that fits.
    #[must_use]
    pub fn new(
        kd: &'a KdSemantic,
        teacher: &'a Vgae,
        student: &Vgae,
        loader: &mut Loader,
        train: &'a GraphSet,
        eval_batch: usize,
    ) -> Self {
        let store = VarStore::new(loader.device());
        let (small, large) = (i64::from(student.arch.latent), i64::from(teacher.arch.latent));
        let projection = Linear::new(&(&store.root() / "projection"), small, large);
        let bytes = train.node_id.len() as i64 * (large + crate::batch::NODE_FEATURES) * 4;
        let cache = (bytes <= CACHE_MAX_BYTES && !train.is_empty()).then(|| {
            let (mut z, mut features) = (Vec::new(), Vec::new());
            loader.for_each(train, &super::data::everything(train), eval_batch, |_, batch| {
                let targets = teach(teacher, batch);
                z.push(targets.z);
                features.push(targets.features);
            });
            let targets = VgaeTargets { z: Tensor::cat(&z, 0), features: Tensor::cat(&features, 0) };
            Cache { set: train, targets }
        });
        Self { kd, teacher, projection, store, cache }
    }

    fn targets(&self, chosen: &[u32], batch: &GraphBatch) -> VgaeTargets {
        let Some(cache) = &self.cache else { return teach(self.teacher, batch) };
        let mut rows: Vec<i64> = Vec::with_capacity(batch.n_nodes as usize);
        for &graph in chosen {
            rows.extend(cache.set.node_range(graph as usize).map(|node| node as i64));
        }
        let rows = Tensor::from_slice(&rows).to_device(batch.x.device());
        VgaeTargets {
            z: cache.targets.z.index_select(0, &rows),
            features: cache.targets.features.index_select(0, &rows),
        }
    }
}

fn teach(teacher: &Vgae, batch: &GraphBatch) -> VgaeTargets {
    tch::no_grad(|| {
        let pass = VgaePass::run(teacher, batch, false);
        VgaeTargets { z: pass.z, features: pass.decoded.features }
    })
}

/// A [`Vgae`] with its loss.
#[derive(Debug)]
pub struct VgaeTrainee<'a> {
    vgae: &'a Vgae,
    semantic: &'a VgaeSemantic,
    teaching: Option<VgaeTeaching<'a>>,
}

impl<'a> VgaeTrainee<'a> {
    #[must_use]
    pub fn new(vgae: &'a Vgae, semantic: &'a VgaeSemantic, teaching: Option<VgaeTeaching<'a>>) -> Self {
        Self { vgae, semantic, teaching }
    }
}

impl Trainee for VgaeTrainee<'_> {
    fn name(&self) -> &'static str {
        "vgae"
    }

    fn variables(&self) -> BTreeMap<String, Tensor> {
        let mut variables = trainee::named(&self.vgae.store);
        if let Some(teaching) = &self.teaching {
            variables.extend(trainee::named(&teaching.store));
        }
        variables
    }

    fn imbalance(&self) -> Imbalance {
        Imbalance::None
    }

    fn class_weight(&self) -> Option<[f32; 2]> {
        None
    }

    fn loss(&self, chosen: &[u32], batch: &GraphBatch, share: &Share) -> Tensor {
        let pass = VgaePass::run(self.vgae, batch, true);
        let task = pass.loss(self.vgae, batch, &self.semantic.loss);
        let Some(teaching) = &self.teaching else { return task * share.nodes };
        let projected = teaching.projection.forward(&pass.z);
        let targets = teaching.targets(chosen, batch);
        let imitation = imitation_loss(&projected, &pass.decoded.features, &targets, teaching.kd);
        mix(teaching.kd.vgae_alpha, &imitation, &task) * share.nodes
    }

    fn validate(
        &self,
        loader: &mut Loader,
        set: &GraphSet,
        pool: &[u32],
        batch_size: usize,
    ) -> Result<Validation, FitError> {
        let (mut sum, mut nodes) = (Tensor::zeros([], (Kind::Double, loader.device())), 0.0);
        loader.for_each(set, pool, batch_size, |_, batch| {
            tch::no_grad(|| {
                let pass = VgaePass::run(self.vgae, batch, false);
                sum += pass.loss(self.vgae, batch, &self.semantic.loss) * batch.n_nodes as f64;
            });
            nodes += batch.n_nodes as f64;
        });
        Ok(Validation { loss: sum.f_double_value(&[])? / nodes, metrics: BTreeMap::new() })
    }
}
