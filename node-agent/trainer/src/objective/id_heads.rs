//! The two heads of the VGAE that are as wide as the vocabulary (up to thousands of ids per node).
//!
//! Both are a linear layer followed by a cross entropy, so their gradients are known in closed form. They
//! are computed here in blocks of nodes, without autograd: neither the dense multi-hot target nor the logits
//! of a whole batch ever exist, and memory is bounded by one block. On a CPU the fused operation does the same
//! with a block that fits the cache.

use tch::{Kind, Reduction, Tensor};

use crate::batch::GraphBatch;
use crate::nn::fused::{self, HeadResult, Kernels};
use crate::nn::init::Linear;

/// Logits of a block: 8 Mi entries, 32 MiB in f32.
const BLOCK_LOGITS: i64 = 8 << 20;

/// A loss whose gradients are already known. `value` carries them into autograd; see [`attach`].
#[derive(Debug)]
pub struct HeadLoss {
    /// Scalar; its backward pass gives the gradients of the head's input, weight and bias.
    pub value: Tensor,
}

/// Mean over nodes × ids of the binary cross entropy between the neighbourhood logits and the ids that each
/// node's transitions lead to. `hidden` is `[N, H]`.
#[must_use]
pub fn neighbourhood_bce(hidden: &Tensor, head: &Linear, batch: &GraphBatch, kernels: Kernels) -> HeadLoss {
    let scale = 1.0 / (batch.n_nodes as f64 * head.bias.size()[0] as f64);
    if kernels == Kernels::Fused {
        let result = fused_head(hidden, head, (&batch.neighbour_src, &batch.neighbour_id), false, true);
        return fused_loss(hidden, head, result, scale);
    }
    head_loss(hidden, head, scale, |logits, start| {
        // BCE = softplus(logit) - logit for a positive, softplus(logit) else: only the positives are listed.
        let (rows, columns) = positives_of_block(batch, start, logits.size()[0]);
        let loss = logits.softplus().sum(Kind::Double) - gather(logits, &rows, &columns).sum(Kind::Double);
        let gradient = logits.sigmoid();
        (loss, subtract_one(gradient, &rows, &columns))
    })
}

/// Mean over nodes of the cross entropy of the node's own id. `z` is `[N, latent]`.
#[must_use]
pub fn id_cross_entropy(z: &Tensor, head: &Linear, node_id: &Tensor, kernels: Kernels) -> HeadLoss {
    let scale = 1.0 / node_id.size()[0] as f64;
    if kernels == Kernels::Fused {
        return fused_loss(z, head, fused_head(z, head, (&every_row(node_id), node_id), true, true), scale);
    }
    head_loss(z, head, scale, |logits, start| {
        let n = logits.size()[0];
        let columns = node_id.narrow(0, start, n);
        let rows = Tensor::arange(n, (Kind::Int64, logits.device()));
        let log_probability = logits.log_softmax(-1, Kind::Float);
        let loss = -gather(&log_probability, &rows, &columns).sum(Kind::Double);
        (loss, subtract_one(log_probability.exp(), &rows, &columns))
    })
}

/// Neighbourhood cross entropy of each node, mean over ids, `[N]`; no gradient.
pub fn neighbourhood_bce_by_node(
    hidden: &Tensor,
    head: &Linear,
    batch: &GraphBatch,
    kernels: Kernels,
) -> Tensor {
    if kernels == Kernels::Fused {
        let result = fused_head(hidden, head, (&batch.neighbour_src, &batch.neighbour_id), false, false);
        return result.by_node / head.bias.size()[0] as f64;
    }
    by_node(hidden, head, |logits, start| {
        let n = logits.size()[0];
        let (rows, columns) = positives_of_block(batch, start, n);
        let positive = Tensor::zeros([n], (Kind::Float, logits.device())).index_add(
            0,
            &rows,
            &gather(logits, &rows, &columns),
        );
        (logits.softplus().sum_dim_intlist(1_i64, false, Kind::Float) - positive) / logits.size()[1] as f64
    })
}

/// Cross entropy of each node's own id, `[N]`; no gradient.
pub fn id_cross_entropy_by_node(z: &Tensor, head: &Linear, node_id: &Tensor, kernels: Kernels) -> Tensor {
    if kernels == Kernels::Fused {
        return fused_head(z, head, (&every_row(node_id), node_id), true, false).by_node;
    }
    by_node(z, head, |logits, start| {
        let n = logits.size()[0];
        logits.cross_entropy_loss::<Tensor>(&node_id.narrow(0, start, n), None, Reduction::None, -100, 0.0)
    })
}

fn every_row(node_id: &Tensor) -> Tensor {
    Tensor::arange(node_id.size()[0], (Kind::Int64, node_id.device()))
}

fn fused_head(
    x: &Tensor,
    head: &Linear,
    targets: (&Tensor, &Tensor),
    exclusive: bool,
    gradient: bool,
) -> HeadResult {
    fused::head(x, (&head.weight, &head.bias), targets, exclusive, gradient)
}

fn fused_loss(x: &Tensor, head: &Linear, result: HeadResult, scale: f64) -> HeadLoss {
    let value = (result.by_node.sum(Kind::Double) * scale).to_kind(Kind::Float);
    let Some([by_x, by_weight, by_bias]) = result.gradients.map(|g| g.map(|g| g * scale)) else {
        return HeadLoss { value };
    };
    attach(&value, &[(x, &by_x), (&head.weight, &by_weight), (&head.bias, &by_bias)])
}

/// Rows per block for a vocabulary of `width` ids.
fn block_rows(width: i64) -> i64 {
    (BLOCK_LOGITS / width.max(1)).max(1)
}

fn by_node(x: &Tensor, head: &Linear, score: impl Fn(&Tensor, i64) -> Tensor) -> Tensor {
    let n = x.size()[0];
    let rows = block_rows(head.bias.size()[0]);
    tch::no_grad(|| {
        let mut parts = Vec::new();
        let mut start = 0;
        while start < n {
            let len = rows.min(n - start);
            parts.push(score(&head.forward(&x.narrow(0, start, len)), start));
            start += len;
        }
        Tensor::cat(&parts, 0)
    })
}

/// Sums a loss over blocks and its gradients through the linear layer. `block` gives, for logits `[B, W]` of
/// the nodes from `start` on, the summed loss and its gradient by the logits.
fn head_loss(
    x: &Tensor,
    head: &Linear,
    scale: f64,
    block: impl Fn(&Tensor, i64) -> (Tensor, Tensor),
) -> HeadLoss {
    let n = x.size()[0];
    let rows = block_rows(head.bias.size()[0]);
    let (loss, by_x, by_weight, by_bias) = tch::no_grad(|| {
        let mut loss = Tensor::zeros([], (Kind::Double, x.device()));
        let mut by_x = Vec::new();
        let mut by_weight = head.weight.zeros_like();
        let mut by_bias = head.bias.zeros_like();
        let mut start = 0;
        while start < n {
            let len = rows.min(n - start);
            let part = x.narrow(0, start, len);
            let (value, gradient) = block(&head.forward(&part), start);
            loss += value;
            by_x.push(gradient.matmul(&head.weight));
            by_weight += gradient.tr().matmul(&part);
            by_bias += gradient.sum_dim_intlist(0_i64, false, Kind::Float);
            start += len;
        }
        (loss * scale, Tensor::cat(&by_x, 0) * scale, by_weight * scale, by_bias * scale)
    });
    attach(&loss.to_kind(Kind::Float), &[(x, &by_x), (&head.weight, &by_weight), (&head.bias, &by_bias)])
}

/// A scalar equal to `value` whose gradient by each tensor is the given one: Σ⟨tensor, gradient⟩ has exactly
/// these gradients, and subtracting its detached value leaves `value`.
fn attach(value: &Tensor, known: &[(&Tensor, &Tensor)]) -> HeadLoss {
    let mut carrier = Tensor::zeros([], (Kind::Float, value.device()));
    for (tensor, gradient) in known {
        carrier += (*tensor * *gradient).sum(Kind::Float);
    }
    let value = value + (&carrier - carrier.detach());
    HeadLoss { value }
}

fn gather(values: &Tensor, rows: &Tensor, columns: &Tensor) -> Tensor {
    values.view(-1).index_select(0, &(rows * values.size()[1] + columns))
}

/// `values[rows, columns] -= 1`, each place at most once.
fn subtract_one(values: Tensor, rows: &Tensor, columns: &Tensor) -> Tensor {
    let width = values.size()[1];
    let ones = Tensor::ones(rows.size(), (values.kind(), values.device()));
    let _ = values.view(-1).index_add_(0, &(rows * width + columns), &-ones);
    values
}

/// Rows (within the block) and ids of the neighbourhood targets of the nodes `start .. start + len`.
fn positives_of_block(batch: &GraphBatch, start: i64, len: i64) -> (Tensor, Tensor) {
    let (src, id) = (&batch.neighbour_src, &batch.neighbour_id);
    if start == 0 && len == batch.n_nodes {
        return (src.shallow_clone(), id.shallow_clone());
    }
    let mask = src.ge(start).logical_and(&src.lt(start + len));
    (src.masked_select(&mask) - start, id.masked_select(&mask))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::HostBatch;
    use tch::{Device, nn::VarStore};

    const WIDTH: i64 = 7;

    fn setup() -> (GraphBatch, VarStore, Linear, Tensor) {
        crate::runtime::init();
        tch::manual_seed(11);
        let host = HostBatch {
            node_id: &[0, 2, 5, 2, 6],
            x: &[0.5; 50],
            edge_src: &[0, 0, 0, 1, 3, 4, 4],
            edge_dst: &[1, 2, 3, 1, 4, 3, 4],
            graph_of_node: &[0, 0, 0, 1, 1],
            labels: &[0, 1],
        };
        let store = VarStore::new(Device::Cpu);
        let head = Linear::new(&store.root(), 3, WIDTH);
        let x = Tensor::randn([5, 3], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        (GraphBatch::from_host(&host, Device::Cpu), store, head, x)
    }

    fn gradients(loss: &Tensor, of: &[&Tensor]) -> Vec<Vec<f32>> {
        Tensor::run_backward(&[loss], of, false, false)
            .iter()
            .map(|g| Vec::try_from(g.reshape([-1])).unwrap())
            .collect()
    }

    fn close(a: &Tensor, b: &Tensor, head: &Linear, x: &Tensor) {
        assert!((a.double_value(&[]) - b.double_value(&[])).abs() < 1e-6);
        let of = [x, &head.weight, &head.bias];
        for (left, right) in gradients(a, &of).iter().zip(gradients(b, &of)) {
            assert!(left.iter().zip(&right).all(|(l, r)| (l - r).abs() < 1e-6), "{left:?} against {right:?}");
        }
    }

    #[test]
    fn neighbourhood_loss_equals_the_dense_formula_and_its_gradients() {
        let (batch, _store, head, x) = setup();
        // Node 0 leads to two nodes of id 2: still one positive.
        let target = Tensor::zeros([5, WIDTH], (Kind::Float, Device::Cpu));
        for (row, id) in [(0, 2), (0, 5), (1, 2), (3, 6), (4, 2), (4, 6)] {
            let _ = target.get(row).get(id).fill_(1.0);
        }
        for kernels in [Kernels::Plain, Kernels::Fused] {
            let logits = head.forward(&x);
            let dense =
                logits.binary_cross_entropy_with_logits::<Tensor>(&target, None, None, Reduction::Mean);
            close(&neighbourhood_bce(&x, &head, &batch, kernels).value, &dense, &head, &x);
            let by_node = neighbourhood_bce_by_node(&x, &head, &batch, kernels).mean(Kind::Float);
            assert!((by_node.double_value(&[]) - dense.double_value(&[])).abs() < 1e-6);
        }
    }

    #[test]
    fn id_loss_equals_the_dense_formula_and_its_gradients() {
        let (batch, _store, head, x) = setup();
        for kernels in [Kernels::Plain, Kernels::Fused] {
            let dense = head.forward(&x).cross_entropy_for_logits(&batch.node_id);
            close(&id_cross_entropy(&x, &head, &batch.node_id, kernels).value, &dense, &head, &x);
            let by_node = id_cross_entropy_by_node(&x, &head, &batch.node_id, kernels).mean(Kind::Float);
            assert!((by_node.double_value(&[]) - dense.double_value(&[])).abs() < 1e-6);
        }
    }

    #[test]
    fn a_block_sees_only_its_own_transitions() {
        let (batch, _store, _head, _x) = setup();
        let (rows, columns) = positives_of_block(&batch, 3, 2);
        assert_eq!(Vec::<i64>::try_from(rows).unwrap(), [0, 1, 1]);
        assert_eq!(Vec::<i64>::try_from(columns).unwrap(), [6, 2, 6]);
    }
}
