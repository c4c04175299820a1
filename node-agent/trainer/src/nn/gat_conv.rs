//! Graph attention convolution with the defaults of PyTorch Geometric's `GATConv`.

use tch::nn::Path;
use tch::{Kind, Tensor};

use super::fused::{self, Dropout, Kernels};
use super::init::glorot;
use crate::batch::{ConvEdges, GraphBatch};

/// Slope of the leaky ReLU on attention scores.
const NEGATIVE_SLOPE: f64 = 0.2;
/// PyTorch Geometric adds this to a softmax denominator.
const SOFTMAX_EPS: f64 = 1e-16;

/// Shared linear map without bias, additive attention per head, softmax over incoming edges, heads
/// concatenated, bias. Parameters: in·H·C + 3·H·C for H heads of C channels.
#[derive(Debug)]
pub struct GatConv {
    weight: Tensor,
    att_src: Tensor,
    att_dst: Tensor,
    bias: Tensor,
    heads: i64,
    channels: i64,
}

impl GatConv {
    /// `inputs` features in, `heads * channels` out.
    #[must_use]
    pub fn new(path: &Path<'_>, inputs: i64, channels: i64, heads: i64) -> Self {
        let width = heads * channels;
        let attention = glorot(heads, channels);
        Self {
            att_src: path.var("att_src", &[1, heads, channels], attention),
            att_dst: path.var("att_dst", &[1, heads, channels], attention),
            bias: path.zeros("bias", &[width]),
            weight: (path / "lin").var("weight", &[width, inputs], glorot(inputs, width)),
            heads,
            channels,
        }
    }

    /// `[N, in]` to `[N, H·C]` in plain operations of libtorch: the reference.
    pub fn forward(&self, x: &Tensor, edges: &ConvEdges) -> Tensor {
        let (n_nodes, width) = (x.size()[0], self.heads * self.channels);
        let alpha = self.attention(x, edges);
        let projected = x.matmul(&self.weight.tr()).view([n_nodes, self.heads, self.channels]);
        let messages = projected.index_select(0, &edges.src) * alpha.unsqueeze(-1);
        Tensor::zeros([n_nodes, width], (x.kind(), x.device())).index_add(
            0,
            &edges.dst,
            &messages.view([-1, width]),
        ) + &self.bias
    }

    /// The layer of a classifier: convolution, ReLU, dropout. Gives `[N, H·C]` and its mean over each graph,
    /// `[G, H·C]`.
    pub fn pooled_layer(
        &self,
        x: &Tensor,
        batch: &GraphBatch,
        dropout: Dropout,
        kernels: Kernels,
    ) -> (Tensor, Tensor) {
        if kernels == Kernels::Fused {
            let (out, pooled) = fused::gat_layer(x, &self.fused(true, dropout), batch, true);
            return (out, pooled.expect("asked for"));
        }
        let out = dropout.apply(&self.forward(x, &batch.edges).relu());
        let pooled = batch.mean_by_graph(&out);
        (out, pooled)
    }

    /// The bare convolution, `[N, in]` to `[N, H·C]`.
    pub fn convolve(&self, x: &Tensor, batch: &GraphBatch, kernels: Kernels) -> Tensor {
        match kernels {
            Kernels::Plain => self.forward(x, &batch.edges),
            Kernels::Fused => fused::gat_layer(x, &self.fused(false, Dropout::OFF), batch, false).0,
        }
    }

    fn fused(&self, relu: bool, dropout: Dropout) -> fused::GatLayer<'_> {
        let Self { weight, att_src, att_dst, bias, .. } = self;
        fused::GatLayer { weight, att_src, att_dst, bias, relu, dropout }
    }

    /// Weight of each edge within its target's softmax, `[E, H]`.
    ///
    /// The scores a·(W x) are taken as x·(Wᵀ a): a product with `2 H` columns in place of one over all
    /// channels.
    pub fn attention(&self, x: &Tensor, edges: &ConvEdges) -> Tensor {
        let n_nodes = x.size()[0];
        let by_head = self.weight.view([self.heads, self.channels, -1]);
        let fold = |attention: &Tensor| {
            (&by_head * attention.view([self.heads, self.channels, 1])).sum_dim_intlist(
                1_i64,
                false,
                Kind::Float,
            )
        };
        let folded = Tensor::cat(&[fold(&self.att_src), fold(&self.att_dst)], 0);
        let scores = x.matmul(&folded.tr()).split(self.heads, 1);
        let raw = scores[0].index_select(0, &edges.src) + scores[1].index_select(0, &edges.dst);
        let raw = raw.clamp_min(0.0) + raw.clamp_max(0.0) * NEGATIVE_SLOPE;

        // The maximum only guards exp against overflow; its gradient cancels.
        let index = edges.dst.unsqueeze(1).expand_as(&raw);
        let highest = tch::no_grad(|| {
            Tensor::zeros([n_nodes, self.heads], (raw.kind(), raw.device()))
                .internal_scatter_reduce(0, &index, &raw, "amax", false)
        });
        let exponent = (raw - highest.index_select(0, &edges.dst)).exp();
        let total = Tensor::zeros([n_nodes, self.heads], (exponent.kind(), exponent.device()))
            .index_add(0, &edges.dst, &exponent);
        exponent / (total + SOFTMAX_EPS).index_select(0, &edges.dst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{GraphBatch, HostBatch};
    use tch::{Device, nn::VarStore};

    fn graph() -> GraphBatch {
        let x: Vec<f32> = (0..40).map(|i| (i as f32 * 0.37).sin()).collect();
        let host = HostBatch {
            node_id: &[0, 1, 2, 3],
            x: &x,
            edge_src: &[0, 0, 1, 2, 3],
            edge_dst: &[0, 1, 2, 1, 1],
            graph_of_node: &[0; 4],
            labels: &[0],
        };
        GraphBatch::from_host(&host, Device::Cpu)
    }

    fn values(tensor: &Tensor) -> Vec<f64> {
        Vec::try_from(tensor.to_kind(Kind::Double).reshape([-1])).unwrap()
    }

    /// The definition, node by node and head by head, in f64.
    fn by_definition(conv: &GatConv, batch: &GraphBatch) -> Vec<f64> {
        let (h, c, n, f) = (conv.heads as usize, conv.channels as usize, 4, 10);
        let (x, w) = (values(&batch.x), values(&conv.weight));
        let (a_src, a_dst, bias) = (values(&conv.att_src), values(&conv.att_dst), values(&conv.bias));
        let edges = [(0, 1), (1, 2), (2, 1), (3, 1), (0, 0), (1, 1), (2, 2), (3, 3)];
        let project =
            |node: usize, out: usize| -> f64 { (0..f).map(|k| x[node * f + k] * w[out * f + k]).sum() };
        let dot = |node: usize, head: usize, a: &[f64]| -> f64 {
            (0..c).map(|k| project(node, head * c + k) * a[head * c + k]).sum()
        };
        let mut out = vec![0.0; n * h * c];
        for target in 0..n {
            for head in 0..h {
                let incoming: Vec<(usize, f64)> = edges
                    .iter()
                    .filter(|(_, d)| *d == target)
                    .map(|&(s, d)| {
                        let score = dot(s, head, &a_src) + dot(d, head, &a_dst);
                        (s, (if score > 0.0 { score } else { 0.2 * score }).exp())
                    })
                    .collect();
                let total: f64 = incoming.iter().map(|(_, e)| e).sum();
                for k in 0..c {
                    let place = head * c + k;
                    out[target * h * c + place] = bias[place]
                        + incoming.iter().map(|(s, e)| e / total * project(*s, place)).sum::<f64>();
                }
            }
        }
        out
    }

    #[test]
    fn equals_the_definition() {
        crate::runtime::init();
        tch::manual_seed(3);
        let store = VarStore::new(Device::Cpu);
        let conv = GatConv::new(&store.root(), 10, 5, 3);
        let _ = tch::no_grad(|| conv.bias.shallow_clone().uniform_(-1.0, 1.0));
        let batch = graph();
        let got = values(&conv.forward(&batch.x, &batch.edges));
        for (a, b) in got.iter().zip(by_definition(&conv, &batch)) {
            assert!((a - b).abs() < 1e-5, "{a} against {b}");
        }
    }

    #[test]
    fn attention_of_a_target_sums_to_one_even_for_huge_scores() {
        crate::runtime::init();
        tch::manual_seed(4);
        let store = VarStore::new(Device::Cpu);
        let conv = GatConv::new(&store.root(), 10, 4, 2);
        let batch = graph();
        for scale in [1.0, 1e4] {
            let alpha = conv.attention(&(&batch.x * scale), &batch.edges);
            let sums =
                Tensor::zeros([4, 2], (Kind::Float, Device::Cpu)).index_add(0, &batch.edges.dst, &alpha);
            for sum in values(&sums) {
                assert!((sum - 1.0).abs() < 1e-5, "{sum}");
            }
        }
    }
}
