//! The mathematics against PyTorch Geometric and PyTorch, number by number, on the same weights: outputs,
//! losses, gradients, and what some training steps make of the weights. The numbers come from
//! `scripts/reference_fixtures.py`.

use std::collections::BTreeMap;
use std::path::Path;

use common::config::semantic::{DqnArch, GatArch, GatLayer, KdSemantic, VgaeArch, VgaeLoss};
use tch::nn::VarStore;
use tch::{Device, Kind, Reduction, Tensor};
use trainer::batch::{GraphBatch, HostBatch};
use trainer::fit::trainee::{copy_into, named};
use trainer::nn::gat::Gat;
use trainer::nn::gat_conv::GatConv;
use trainer::nn::init::Linear;
use trainer::nn::qnet::QNet;
use trainer::nn::vgae::Vgae;
use trainer::objective::classification::cross_entropy;
use trainer::objective::kd::{VgaeTargets, imitation_loss, mix, soft_label_loss};
use trainer::objective::vgae::VgaePass;
use trainer::optim::{Adam, AdamConfig, WeightDecay};

/// Ids in the reference's vocabulary.
const NUM_IDS: i64 = 12;
/// Largest difference, relative to the larger of 1 and the reference's number.
const TOLERANCE: f64 = 1e-5;

/// A file of reference numbers.
struct Reference(BTreeMap<String, Tensor>);

impl Reference {
    fn open(name: &str) -> Self {
        trainer::runtime::init();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference");
        let tensors = Tensor::read_safetensors(folder.join(format!("{name}.safetensors"))).unwrap();
        Self(tensors.into_iter().collect())
    }

    fn get(&self, name: &str) -> &Tensor {
        self.0.get(name).unwrap_or_else(|| panic!("the reference lacks {name}"))
    }

    /// Everything under a prefix, by the rest of its name.
    fn under(&self, prefix: &str) -> BTreeMap<String, Tensor> {
        let rest = |(name, tensor): (&String, &Tensor)| {
            Some((name.strip_prefix(prefix)?.to_owned(), tensor.shallow_clone()))
        };
        self.0.iter().filter_map(rest).collect()
    }

    fn ints(&self, name: &str) -> Vec<i64> {
        Vec::try_from(self.get(name)).unwrap()
    }

    fn batch(&self) -> GraphBatch {
        let x: Vec<f32> = Vec::try_from(self.get("in.x").reshape([-1])).unwrap();
        let [node_id, src, dst, graph, labels] =
            ["in.node_id", "in.src", "in.dst", "in.graph", "in.label"].map(|name| self.ints(name));
        let host = HostBatch {
            node_id: &node_id,
            x: &x,
            edge_src: &src,
            edge_dst: &dst,
            graph_of_node: &graph,
            labels: &labels,
        };
        GraphBatch::from_host(&host, Device::Cpu)
    }

    /// Puts the reference's weights into a store; both must have the same names.
    fn fill(&self, store: &VarStore) {
        let (ours, theirs) = (named(store), self.under("w."));
        assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
        copy_into(&ours, &theirs).unwrap();
    }

    fn agrees(&self, name: &str, got: &Tensor) {
        close(name, got, self.get(name));
    }

    /// Gradients of every weight that the reference has one of.
    fn gradients_agree(&self, store: &VarStore) {
        let ours = named(store);
        let theirs = self.under("g.");
        assert!(theirs.len() > 3, "the reference has gradients");
        for (name, expected) in theirs {
            close(&format!("gradient of {name}"), &ours[&name].grad(), &expected);
        }
    }

    fn trained_agree(&self, store: &VarStore) {
        let ours = named(store);
        for (name, expected) in self.under("t.") {
            close(&format!("trained {name}"), &ours[&name], &expected);
        }
    }
}

fn close(name: &str, got: &Tensor, expected: &Tensor) {
    assert_eq!(got.size(), expected.size(), "{name}");
    let (got, expected) = (got.detach().to_kind(Kind::Double), expected.to_kind(Kind::Double));
    let scale = expected.abs().clamp_min(1.0);
    let gap = ((got - expected).abs() / scale).max().double_value(&[]);
    assert!(gap <= TOLERANCE, "{name} differs by {gap:e}");
}

fn gat_of(reference: &Reference) -> Gat {
    let arch = GatArch { id_embedding: 4, layers: 3, heads: 2, hidden: 5, fc_layers: 2, dropout: 0.0 };
    let gat = Gat::new(&arch, NUM_IDS, Device::Cpu);
    reference.fill(&gat.store);
    gat
}

fn vgae_of(reference: &Reference) -> Vgae {
    let arch = VgaeArch {
        id_embedding: 3,
        encoder: vec![GatLayer::new(2, 6), GatLayer::new(1, 8)],
        latent: 5,
        decoder: vec![GatLayer::new(2, 4)],
        neighbourhood_hidden: 5,
        dropout: 0.0,
    };
    let vgae = Vgae::new(&arch, NUM_IDS, Device::Cpu);
    reference.fill(&vgae.store);
    vgae
}

#[test]
fn a_convolution_and_its_gradients() {
    let reference = Reference::open("gat_conv");
    let store = VarStore::new(Device::Cpu);
    let conv = GatConv::new(&store.root(), 10, 7, 3);
    reference.fill(&store);
    let batch = reference.batch();
    let out = conv.forward(&batch.x, &batch.edges);
    reference.agrees("out.y", &out);
    (out * reference.get("in.direction")).sum(Kind::Float).backward();
    reference.gradients_agree(&store);
}

#[test]
fn the_whole_classifier_its_loss_and_its_gradients() {
    let reference = Reference::open("gat");
    let gat = gat_of(&reference);
    let batch = reference.batch();
    let scores = gat.score_batch(&batch);
    let logits = reference.get("out.logits");
    reference.agrees("out.embedding", &scores.embedding);
    close("probabilities", &scores.probabilities, &logits.softmax(-1, Kind::Float));
    close("margin", &scores.margin, &(logits.select(1, 1) - logits.select(1, 0)));
    let ours = gat.forward(&batch, true);
    reference.agrees("out.logits", &ours);
    let loss = cross_entropy(&ours, &batch.labels, Some(reference.get("in.class_weight")));
    reference.agrees("out.loss", &loss);
    loss.backward();
    reference.gradients_agree(&gat.store);
}

#[test]
fn distilled_classification() {
    let reference = Reference::open("gat");
    let batch = reference.batch();
    let logits = reference.get("out.logits");
    let soft = soft_label_loss(logits, reference.get("in.teacher"), 4.0);
    let hard = cross_entropy(logits, &batch.labels, None);
    reference.agrees("out.kd_loss", &mix(0.7, &soft, &hard));
}

#[test]
fn five_steps_of_adam_with_l2_decay_and_clipping() {
    let reference = Reference::open("gat");
    let gat = gat_of(&reference);
    let batch = reference.batch();
    let mut adam = Adam::for_store(&gat.store, AdamConfig::new(0.01, WeightDecay::L2(1e-2))).unwrap();
    let mut losses = Vec::new();
    for _ in 0..5 {
        adam.zero_grad();
        let logits = gat.forward(&batch, true);
        let loss = cross_entropy(&logits, &batch.labels, Some(reference.get("in.class_weight")));
        loss.backward();
        adam.clip_grad_norm(0.5).unwrap();
        adam.step().unwrap();
        losses.push(loss.double_value(&[]) as f32);
    }
    reference.agrees("out.losses", &Tensor::from_slice(&losses));
    reference.trained_agree(&gat.store);
}

#[test]
fn the_auto_encoder_in_evaluation() {
    let reference = Reference::open("vgae");
    let vgae = vgae_of(&reference);
    let batch = reference.batch();
    let pass = VgaePass::run(&vgae, &batch, false);
    reference.agrees("out.mean", &pass.posterior.mean);
    reference.agrees("out.logvar", &pass.posterior.logvar);
    reference.agrees("out.features", &pass.decoded.features);
    reference.agrees("out.id_logits", &vgae.id_head.forward(&pass.z));
    let neighbours = vgae.neighbourhood_head.forward(&pass.decoded.neighbourhood_hidden);
    reference.agrees("out.neighbour_logits", &neighbours);
    let scores = vgae.score_batch(&batch);
    reference.agrees("out.feature_mse", &scores.feature_mse);
    reference.agrees("out.neighbour_bce", &scores.neighbourhood_bce);
    reference.agrees("out.id_ce", &scores.id_ce);
}

#[test]
fn the_auto_encoder_in_training_its_loss_gradients_and_running_statistics() {
    let reference = Reference::open("vgae");
    let vgae = vgae_of(&reference);
    let batch = reference.batch();
    // Training, but decoded at the mean: the reference cannot share our noise.
    let posterior = vgae.encode(&batch, true);
    let z = posterior.mean.shallow_clone();
    let decoded = vgae.decode(&z, &batch, true);
    let pass = VgaePass { posterior, z, decoded };
    let loss = pass.loss(&vgae, &batch, &VgaeLoss::default());
    reference.agrees("out.train_loss", &loss);
    reference.trained_agree(&vgae.store);

    let store = VarStore::new(Device::Cpu);
    let projection = Linear::new(&store.root(), 5, 9);
    let saved = BTreeMap::from([
        ("weight".to_owned(), reference.get("in.projection").shallow_clone()),
        ("bias".to_owned(), reference.get("in.projection_bias").shallow_clone()),
    ]);
    copy_into(&named(&store), &saved).unwrap();
    let teacher = VgaeTargets {
        z: reference.get("in.teacher_z").shallow_clone(),
        features: reference.get("in.teacher_features").shallow_clone(),
    };
    let projected = projection.forward(&pass.z);
    let imitation = imitation_loss(&projected, &pass.decoded.features, &teacher, &KdSemantic::default());
    reference.agrees("out.kd_loss", &mix(0.7, &imitation, &loss));

    loss.backward();
    reference.gradients_agree(&vgae.store);
}

#[test]
fn the_q_network_its_huber_loss_and_a_step_of_adamw() {
    let reference = Reference::open("qnet");
    // The state's width is fixed, the rest is not.
    let net = QNet::new(&DqnArch { layers: 2, hidden: 24, actions: 7, dropout: 0.0 }, Device::Cpu);
    reference.fill(&net.store);
    let mut adam = Adam::for_store(&net.store, AdamConfig::new(0.01, WeightDecay::Decoupled(1e-2))).unwrap();
    let values = net.forward(reference.get("in.states"), true);
    reference.agrees("out.values", &values);
    let action = reference.get("in.action").unsqueeze(1);
    let chosen = values.gather(1, &action, false).squeeze_dim(1);
    let loss = chosen.huber_loss(reference.get("in.goal"), Reduction::Mean, 1.0);
    reference.agrees("out.loss", &loss);
    loss.backward();
    reference.gradients_agree(&net.store);
    adam.clip_grad_norm(1.0).unwrap();
    adam.step().unwrap();
    reference.trained_agree(&net.store);
}
