#!/usr/bin/env python3
"""Makes the tensors that the trainer's mathematics is held against (node-agent/trainer/tests/reference/).

    python3 -m venv venv && venv/bin/pip install torch==2.11.0 torch-geometric==2.7.0 safetensors numpy
    venv/bin/python scripts/reference_fixtures.py

The models are put together here from PyTorch Geometric's and PyTorch's own layers, under the parameter names
of the published Python classes. Every file holds weights (`w.`), inputs (`in.`), outputs (`out.`), gradients
(`g.`) and what training makes of the weights (`t.`). The files lie in the repository: tests need no Python.
"""

import pathlib

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn
from torch_geometric.nn import GATConv, JumpingKnowledge, global_mean_pool

HERE = pathlib.Path(__file__).resolve().parent.parent / "node-agent/trainer/tests/reference"
NUM_IDS = 12
FEATURES = 10


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


def block(inputs, outputs):
    return nn.Linear(inputs, outputs), nn.ReLU(), nn.Dropout(0.0)


class Gat(nn.Module):
    """Three layers of two heads of five channels, concatenated layers, mean pool, two linears."""

    def __init__(self, embedding=4, layers=3, heads=2, hidden=5, fc_layers=2):
        super().__init__()
        self.id_embedding = nn.Embedding(NUM_IDS, embedding)
        width = heads * hidden
        inputs = [embedding + FEATURES] + [width] * (layers - 1)
        self.convs = nn.ModuleList(GATConv(i, hidden, heads=heads) for i in inputs)
        self.jk = JumpingKnowledge("cat")
        pooled = width * layers
        rest = [m for _ in range(fc_layers - 1) for m in block(pooled, pooled)]
        self.fc_layers = nn.ModuleList([*rest, nn.Linear(pooled, 2)])

    def forward(self, d):
        x = torch.cat([self.id_embedding(d["in.node_id"]), d["in.x"]], 1)
        edges = torch.stack([d["in.src"], d["in.dst"]])
        layers = []
        for conv in self.convs:
            x = conv(x, edges).relu()
            layers.append(x)
        embedding = x = global_mean_pool(self.jk(layers), d["in.graph"])
        for layer in self.fc_layers:
            x = layer(x)
        return x, embedding


class Vgae(nn.Module):
    """Encoder 2x6 and 1x8, latent 5, decoder 2x4, neighbourhood head of width 5."""

    def __init__(self, embedding=3, latent=5, hidden=5):
        super().__init__()
        self.id_embedding = nn.Embedding(NUM_IDS, embedding)
        self.encoder_layers = nn.ModuleList([GATConv(embedding + FEATURES, 6, heads=2), GATConv(12, 8)])
        self.encoder_bns = nn.ModuleList([nn.BatchNorm1d(12), nn.BatchNorm1d(8)])
        self.z_mean = nn.Linear(8, latent)
        self.z_logvar = nn.Linear(8, latent)
        self.decoder_layers = nn.ModuleList([GATConv(latent, 4, heads=2), GATConv(8, FEATURES)])
        self.decoder_bns = nn.ModuleList([nn.BatchNorm1d(8)])
        self.canid_classifier = nn.Linear(latent, NUM_IDS)
        rest = [*block(latent, hidden), *block(hidden, hidden)]
        self.neighborhood_decoder = nn.Sequential(*rest, nn.Linear(hidden, NUM_IDS))

    def forward(self, d):
        edges = torch.stack([d["in.src"], d["in.dst"]])
        x = torch.cat([self.id_embedding(d["in.node_id"]), d["in.x"]], 1)
        for conv, norm in zip(self.encoder_layers, self.encoder_bns):
            x = norm(conv(x, edges)).relu()
        mean, logvar = self.z_mean(x), self.z_logvar(x).clamp(-20, 20)
        x = self.decoder_bns[0](self.decoder_layers[0](mean, edges)).relu()
        features = self.decoder_layers[1](x, edges).sigmoid()
        return mean, logvar, features, self.canid_classifier(mean), self.neighborhood_decoder(mean)


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
    model = shake(Gat())
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
    model = shake(Vgae())
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
    blocks = [(15, 24), (24, 24)]
    rest = [m for i, o in blocks for m in (nn.Linear(i, o), nn.LayerNorm(o), nn.ReLU(), nn.Dropout(0.0))]
    model = shake(nn.Sequential(*rest, nn.Linear(24, 7)))
    states, action, goal = torch.randn(10, 15), torch.randint(7, (10,)), 2 * torch.randn(10)
    values = model(states)
    loss = F.smooth_l1_loss(values.gather(1, action.unsqueeze(1)).squeeze(1), goal)
    d = {"in.states": states, "in.action": action, "in.goal": goal, "out.values": values.detach()}
    d |= named("w", ((f"net.{name}", p) for name, p in model.named_parameters()))
    adam = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=1e-2)
    loss.backward()
    d["out.loss"] = loss.detach()
    d |= {f"g.net.{name[2:]}": tensor for name, tensor in gradients(model).items()}
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    adam.step()
    d |= named("t", ((f"net.{name}", p) for name, p in model.named_parameters()))
    save_file(d, HERE / "qnet.safetensors")


if __name__ == "__main__":
    HERE.mkdir(parents=True, exist_ok=True)
    for make in (gat_conv, gat, vgae, qnet):
        torch.manual_seed(7)
        make()
