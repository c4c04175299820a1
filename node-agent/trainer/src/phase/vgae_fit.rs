//! The auto-encoder in training, alone or with a teacher.

use std::collections::BTreeMap;

use common::config::semantic::{Imbalance, KdSemantic, VgaeSemantic};
use dataset::GraphSet;
use tch::nn::VarStore;
use tch::{Kind, Tensor};

use crate::batch::GraphBatch;
use crate::fit::{Evaluator, FitError, Share, Trainee, Validation, trainee};
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
    /// Latents and rebuilt features side by side, f32 `[nodes, latent + 10]`.
    rows: Tensor,
    latent: i64,
}

impl<'a> VgaeTeaching<'a> {
    /// Evaluates the teacher (evaluation mode, posterior mean) over the training set once, if that fits.
    ///
    /// # Errors
    /// As [`Evaluator::rows`].
    pub fn new(
        kd: &'a KdSemantic,
        teacher: &'a Vgae,
        student: &Vgae,
        evaluator: &mut Evaluator<'_>,
        train: &'a GraphSet,
    ) -> Result<Self, FitError> {
        let store = VarStore::new(evaluator.device());
        let (small, large) = (i64::from(student.arch.latent), i64::from(teacher.arch.latent));
        let projection = Linear::new(&(&store.root() / "projection"), small, large);
        let bytes = train.node_id.len() as i64 * (large + crate::batch::NODE_FEATURES) * 4;
        let mut cache = None;
        if bytes <= CACHE_MAX_BYTES && !train.is_empty() {
            let everything = super::data::everything(train);
            let width = large + crate::batch::NODE_FEATURES;
            let rows = evaluator.rows(train, &everything, width, |batch| {
                let targets = teach(teacher, batch);
                Tensor::cat(&[targets.z, targets.features], 1)
            })?;
            cache = Some(Cache { set: train, rows, latent: large });
        }
        Ok(Self { kd, teacher, projection, store, cache })
    }

    fn targets(&self, chosen: &[u32], batch: &GraphBatch) -> VgaeTargets {
        let Some(cache) = &self.cache else { return teach(self.teacher, batch) };
        let mut rows: Vec<i64> = Vec::with_capacity(batch.n_nodes as usize);
        for &graph in chosen {
            rows.extend(cache.set.node_range(graph as usize).map(|node| node as i64));
        }
        let rows = Tensor::from_slice(&rows).to_device(batch.x.device());
        let rows = cache.rows.index_select(0, &rows);
        VgaeTargets {
            z: rows.narrow(1, 0, cache.latent),
            features: rows.narrow(1, cache.latent, crate::batch::NODE_FEATURES),
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
        evaluator: &mut Evaluator<'_>,
        set: &GraphSet,
        pool: &[u32],
    ) -> Result<Validation, FitError> {
        // One row a batch: the loss of its nodes in sum, and how many they are.
        let rows = evaluator.rows(set, pool, 2, |batch| {
            let pass = VgaePass::run(self.vgae, batch, false);
            let loss = pass.loss(self.vgae, batch, &self.semantic.loss).to_kind(Kind::Double);
            let nodes = loss.full_like(batch.n_nodes as f64);
            Tensor::stack(&[loss * batch.n_nodes as f64, nodes], 0).unsqueeze(0)
        })?;
        let sums = rows.f_sum_dim_intlist(0_i64, false, Kind::Double)?;
        let loss = sums.f_double_value(&[0])? / sums.f_double_value(&[1])?;
        Ok(Validation { loss, metrics: BTreeMap::new() })
    }
}
