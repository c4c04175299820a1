#!/usr/bin/env python3
"""Makes the tensors that the trainer's mathematics is held against (node-agent/trainer/tests/reference/).

    python3 -m venv venv && venv/bin/pip install torch==2.11.0 torch-geometric==2.7.0 safetensors numpy
    venv/bin/python scripts/reference_fixtures.py

The models are put together here from PyTorch Geometric's and PyTorch's own layers, under the parameter names
of the published Python classes. Every file holds weights (`w.`), inputs (`in.`), outputs (`out.`), gradients
(`g.`) and what training makes of the weights (`t.`). The files lie in the repository: tests need no Python.
"""

import json
import pathlib

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from reference_models import FEATURES, Gat, QNet, Vgae
from torch import nn
from torch_geometric.nn import GATConv, global_mean_pool

HERE = pathlib.Path(__file__).resolve().parent.parent / "node-agent/trainer/tests/reference"
NUM_IDS = 12
GAT = {"id_embedding": 4, "layers": 3, "heads": 2, "hidden": 5, "fc_layers": 2}
VGAE = {
    "id_embedding": 3,
    "encoder": [{"heads": 2, "width": 6}, {"heads": 1, "width": 8}],
    "latent": 5,
    "decoder": [{"heads": 2, "width": 4}],
    "neighbourhood_hidden": 5,
}
DQN = {"layers": 2, "hidden": 24, "actions": 7}


def graphs():
    """Six graphs of 2 to 9 nodes as one; distinct edges with self-loops among them, sorted."""
    node_id, src, dst, graph = [], [], [], []
    for g, nodes in enumerate([4, 9, 2, 6, 3, 7]):
        first = len(node_id)
        node_id += sorted(torch.randperm(NUM_IDS)[:nodes].tolist())
        graph += [g] * nodes
        edges = {(i, (i + 1) % nodes) for i in range(nodes)}
        edges |= {tuple(torch.randint(nodes, (2,)).tolist()) for _ in range(2 * nodes)}
        for s, d in sorted(edges):
            src.append(first + s)
            dst.append(first + d)
    x = torch.rand(len(node_id), FEATURES)
    return {
        "in.node_id": torch.tensor(node_id),
        "in.x": x,
        "in.src": torch.tensor(src),
        "in.dst": torch.tensor(dst),
        "in.graph": torch.tensor(graph),
        "in.label": torch.tensor([0, 1, 0, 0, 1, 0]),
    }


def shake(module):
    """Moves every tensor away from its initial zeros and ones, which could hide a mistake."""
    with torch.no_grad():
        for tensor in module.parameters():
            tensor += 0.1 * torch.randn_like(tensor)
        for name, tensor in module.named_buffers():
            if tensor.is_floating_point():
                tensor += 0.3 * torch.rand_like(tensor)
    return module


def named(prefix, tensors):
    return {f"{prefix}.{name}": tensor.detach().clone().contiguous() for name, tensor in tensors}


def gradients(module):
    return named("g", ((name, p.grad) for name, p in module.named_parameters() if p.grad is not None))


def vgae_terms(d, mean, logvar, features, ids, neighbours):
    """Per node: feature error, neighbourhood and id cross entropy; and the divergence, over everything."""
    target = torch.zeros_like(neighbours)
    target[d["in.src"], d["in.node_id"][d["in.dst"]]] = 1.0
    mse = (features - d["in.x"]).square().mean(1)
    bce = F.binary_cross_entropy_with_logits(neighbours, target, reduction="none").mean(1)
    ce = F.cross_entropy(ids, d["in.node_id"], reduction="none")
    kl = -0.5 * torch.mean(1 + logvar - mean.pow(2) - logvar.exp())
    return mse, bce, ce, kl


def gat_conv():
    d = graphs()
    conv = shake(GATConv(FEATURES, 7, heads=3))
    out = conv(d["in.x"], torch.stack([d["in.src"], d["in.dst"]]))
    d["in.direction"] = torch.randn_like(out)
    d |= named("w", conv.named_parameters()) | {"out.y": out.detach()}
    (out * d["in.direction"]).sum().backward()
    save_file(d | gradients(conv), HERE / "gat_conv.safetensors")


def gat():
    d = graphs()
    model = shake(Gat(NUM_IDS, GAT))
    d |= named("w", model.named_parameters())
    weight = torch.tensor([0.75, 1.5])
    d["in.class_weight"] = weight
    logits, embedding = model(d)
    loss = F.cross_entropy(logits, d["in.label"], weight=weight)
    loss.backward()
    d |= {"out.logits": logits.detach(), "out.embedding": embedding.detach(), "out.loss": loss.detach()}
    d |= gradients(model)
    d["in.teacher"] = 3 * torch.randn_like(logits)
    soft = F.kl_div(
        F.log_softmax(logits / 4, -1), F.softmax(d["in.teacher"] / 4, -1), reduction="batchmean"
    )
    hard = F.cross_entropy(logits, d["in.label"])
    d["out.kd_loss"] = (0.7 * 16 * soft + 0.3 * hard).detach()
    adam = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=1e-2)
    losses = []
    for _ in range(5):
        adam.zero_grad()
        loss = F.cross_entropy(model(d)[0], d["in.label"], weight=weight)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        adam.step()
        losses.append(loss.item())
    d["out.losses"] = torch.tensor(losses)
    save_file(d | named("t", model.named_parameters()), HERE / "gat.safetensors")


def vgae():
    d = graphs()
    model = shake(Vgae(NUM_IDS, VGAE))
    state = [(name, tensor) for name, tensor in model.state_dict().items() if tensor.is_floating_point()]
    d |= named("w", state)
    model.eval()
    with torch.no_grad():
        out = model(d)
        mse, bce, ce, _ = vgae_terms(d, *out)
    names = ["mean", "logvar", "features", "id_logits", "neighbour_logits"]
    d |= {f"out.{name}": tensor for name, tensor in zip(names, out)}
    pool = lambda values: global_mean_pool(values.unsqueeze(1), d["in.graph"]).squeeze(1)
    d |= {"out.feature_mse": pool(mse), "out.neighbour_bce": pool(bce), "out.id_ce": pool(ce)}
    model.train()
    out = model(d)
    mse, bce, ce, kl = vgae_terms(d, *out)
    d["in.loss_weights"] = torch.tensor([1.0, 0.1, 0.05, 0.01])
    loss = mse.mean() + 0.1 * ce.mean() + 0.05 * bce.mean() + 0.01 * kl
    loss.backward()
    d |= {"out.train_loss": loss.detach()} | gradients(model)
    d |= named("t", [(n, t) for n, t in model.state_dict().items() if "running" in n])
    latent, wide = out[0].shape[1], 9
    d["in.teacher_z"] = torch.randn(len(d["in.x"]), wide)
    d["in.teacher_features"] = torch.rand_like(d["in.x"])
    d |= {"in.projection": torch.randn(wide, latent), "in.projection_bias": torch.randn(wide)}
    projected = F.linear(out[0], d["in.projection"], d["in.projection_bias"])
    imitation = 0.5 * F.mse_loss(projected, d["in.teacher_z"])
    imitation = imitation + 0.5 * F.mse_loss(out[2], d["in.teacher_features"])
    d["out.kd_loss"] = (0.7 * imitation + 0.3 * loss).detach()
    save_file(d, HERE / "vgae.safetensors")


def qnet():
    model = shake(QNet(DQN))
    states, action, goal = torch.randn(10, 15), torch.randint(7, (10,)), 2 * torch.randn(10)
    values = model(states)
    loss = F.smooth_l1_loss(values.gather(1, action.unsqueeze(1)).squeeze(1), goal)
    d = {"in.states": states, "in.action": action, "in.goal": goal, "out.values": values.detach()}
    d |= named("w", model.named_parameters())
    adam = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=1e-2)
    loss.backward()
    d |= {"out.loss": loss.detach()} | gradients(model)
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    adam.step()
    save_file(d | named("t", model.named_parameters()), HERE / "qnet.safetensors")


def state_dicts():
    """Names and shapes at the published sizes (conf/base.yaml), with 53 ids."""
    layer = lambda heads, width: {"heads": heads, "width": width}
    vgae_large = {"id_embedding": 32, "encoder": [layer(4, 120), layer(1, 240)], "latent": 48}
    vgae_large |= {"decoder": [layer(4, 60)], "neighbourhood_hidden": 48}
    vgae_small = {"id_embedding": 4, "encoder": [layer(1, 80), layer(1, 40)], "latent": 16}
    vgae_small |= {"decoder": [layer(4, 10)], "neighbourhood_hidden": 16}
    gat_large = {"id_embedding": 16, "layers": 3, "heads": 8, "hidden": 48, "fc_layers": 1}
    gat_small = {"id_embedding": 8, "layers": 2, "heads": 4, "hidden": 24, "fc_layers": 2}
    models = {
        "vgae_large": Vgae(53, vgae_large),
        "vgae_small": Vgae(53, vgae_small),
        "gat_large": Gat(53, gat_large),
        "gat_small": Gat(53, gat_small),
        "dqn_large": QNet({"layers": 3, "hidden": 576, "actions": 21}),
        "dqn_small": QNet({"layers": 2, "hidden": 160, "actions": 21}),
    }
    shapes = {
        name: {key: list(tensor.shape) for key, tensor in model.state_dict().items()}
        for name, model in models.items()
    }
    (HERE / "state_dicts.json").write_text(json.dumps(shapes, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    HERE.mkdir(parents=True, exist_ok=True)
    for make in (gat_conv, gat, vgae, qnet, state_dicts):
        torch.manual_seed(7)
        make()
