"""PyTorch Geometric's side of bench_training.py: the same rounds as examples/bench_worker.rs.

    bench_worker.py CASE FOLDER BATCH THREADS [cpu | cuda:N]

The plain loop at its best: batches collated beforehand, Adam fused, PyG's own layers.
"""

import json
import os
import resource
import struct
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from reference_models import Gat, QNet, Vgae, edges_of, node_input  # noqa: E402
from torch_geometric.nn import global_mean_pool  # noqa: E402

GAT = {
    "large": dict(id_embedding=16, layers=3, heads=8, hidden=48, fc_layers=1),
    "small": dict(id_embedding=8, layers=2, heads=4, hidden=24, fc_layers=2),
}
VGAE = dict(
    id_embedding=32,
    encoder=[dict(width=120, heads=4), dict(width=240, heads=1)],
    latent=48,
    decoder=[dict(width=60, heads=4)],
    neighbourhood_hidden=48,
)
DQN = dict(layers=3, hidden=576, actions=21)
STATES = 7_500
DEVICE = torch.device(sys.argv[5] if len(sys.argv) > 5 else "cpu")


def load_graphs(path):
    """The arrays of a prepared set; the layout is that of dataset::graph_set::file."""
    data = open(path, "rb").read()
    header_bytes = struct.unpack_from("<I", data, 8)[0]
    header = json.loads(data[12 : 12 + header_bytes])
    place = 12 + header_bytes
    g, n, e = header["graphs"], header["nodes"], header["edges"]
    arrays = {}
    for name, kind, count in [
        ("node_offsets", "<u4", g + 1),
        ("edge_offsets", "<u4", g + 1),
        ("node_id", "<u4", n),
        ("x", "<f4", n * 10),
        ("src", "<u2", e),
        ("dst", "<u2", e),
    ]:
        arrays[name] = np.frombuffer(data, kind, count, place)
        place += arrays[name].nbytes
    place += e * 11 * 4 if header["edge_features"] else 0
    arrays["label"] = np.frombuffer(data, "u1", g, place)
    return arrays


def collate(a, chosen):
    ids, x, src, dst, graph, base = [], [], [], [], [], 0
    for number, g in enumerate(chosen):
        n0, n1 = int(a["node_offsets"][g]), int(a["node_offsets"][g + 1])
        e0, e1 = int(a["edge_offsets"][g]), int(a["edge_offsets"][g + 1])
        ids.append(a["node_id"][n0:n1].astype(np.int64))
        x.append(a["x"][n0 * 10 : n1 * 10].reshape(-1, 10))
        src.append(a["src"][e0:e1].astype(np.int64) + base)
        dst.append(a["dst"][e0:e1].astype(np.int64) + base)
        graph.append(np.full(n1 - n0, number, np.int64))
        base += n1 - n0
    join = lambda parts: torch.from_numpy(np.concatenate(parts))  # noqa: E731
    batch = {"in.node_id": join(ids), "in.x": join(x), "in.src": join(src), "in.dst": join(dst)}
    batch["in.graph"] = join(graph)
    batch["label"] = torch.from_numpy(a["label"][chosen].astype(np.int64))
    batch = {name: tensor.to(DEVICE) for name, tensor in batch.items()}
    batch["graphs"] = len(chosen)
    return batch


def batches(a, size):
    n = len(a["label"])
    count = max(1, n // size)
    return [collate(a, np.arange(b, n, count)[:size]) for b in range(count)]


def gat_logits(model, batch, dropout):
    x, layers = node_input(model.id_embedding, batch), []
    for conv in model.convs:
        x = F.dropout(conv(x, edges_of(batch)).relu(), dropout, model.training)
        layers.append(x)
    x = global_mean_pool(model.jk(layers), batch["in.graph"], batch["graphs"])
    for layer in model.fc_layers:
        x = layer(x)
        if isinstance(layer, torch.nn.ReLU):
            x = F.dropout(x, dropout, model.training)
    return x


def vgae_forward(model, batch, dropout):
    edges, training = edges_of(batch), model.training
    x = node_input(model.id_embedding, batch)
    for conv, norm in zip(model.encoder_layers, model.encoder_bns):
        x = F.dropout(norm(conv(x, edges)).relu(), dropout, training)
    mean, logvar = model.z_mean(x), model.z_logvar(x).clamp(-20, 20)
    z = mean + torch.randn_like(mean) * (logvar * 0.5).exp() if training else mean
    x = z
    for conv, norm in zip(model.decoder_layers, model.decoder_bns):
        x = F.dropout(norm(conv(x, edges)).relu(), dropout, training)
    features = model.decoder_layers[-1](x, edges).sigmoid()
    hidden = z
    for layer in list(model.neighborhood_decoder)[:-1]:
        hidden = layer(hidden)
        if isinstance(layer, torch.nn.ReLU):
            hidden = F.dropout(hidden, dropout, training)
    return mean, logvar, features, model.canid_classifier(z), model.neighborhood_decoder[-1](hidden)


def neighbours(batch, width):
    target = torch.zeros(len(batch["in.node_id"]), width, device=DEVICE)
    target[batch["in.src"], batch["in.node_id"][batch["in.dst"]]] = 1.0
    return target


def vgae_loss(model, batch, dropout):
    mean, logvar, features, ids, around = vgae_forward(model, batch, dropout)
    kl = -0.5 * (1 + logvar - mean.square() - logvar.exp()).mean()
    return (
        F.mse_loss(features, batch["in.x"])
        + 0.1 * F.cross_entropy(ids, batch["in.node_id"])
        + 0.05 * F.binary_cross_entropy_with_logits(around, neighbours(batch, around.shape[1]))
        + 0.01 * kl
    )


def vgae_scores(model, batch):
    """Mean errors of each graph."""
    mean, _, features, ids, around = vgae_forward(model, batch, 0.0)
    of = lambda values: global_mean_pool(values.unsqueeze(1), batch["in.graph"], batch["graphs"])  # noqa: E731
    bce = F.binary_cross_entropy_with_logits(around, neighbours(batch, around.shape[1]), reduction="none")
    return (
        of((features - batch["in.x"]).square().mean(1)),
        of(bce.mean(1)),
        of(F.cross_entropy(ids, batch["in.node_id"], reduction="none")),
    )


def training(model, loss_of, data, lr=1e-3):
    optimiser = torch.optim.Adam(model.parameters(), lr=lr, weight_decay=1e-4, fused=True)
    state = {"next": 0}

    def work():
        batch = data[state["next"] % len(data)]
        state["next"] += 1
        optimiser.zero_grad(set_to_none=False)
        loss_of(batch).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        return batch["graphs"]

    return work


def inference(model, visit, data):
    model.eval()
    state = {"next": 0}

    def work():
        batch = data[state["next"] % len(data)]
        state["next"] += 1
        with torch.no_grad():
            visit(batch)
        return batch["graphs"]

    return work


class Dqn:
    """Vectorised episodes: choice, reward and replay as tensor operations, double DQN."""

    def __init__(self):
        self.states = torch.randn(STATES, 15)
        self.gat, self.anomaly = torch.rand(STATES), torch.rand(STATES)
        self.label = (torch.arange(STATES) % 7 == 0).float()
        self.online, self.target = QNet(DQN), QNet(DQN)
        for module in [*self.online.net, *self.target.net]:
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.2
        self.target.load_state_dict(self.online.state_dict())
        self.target.eval()
        self.optimiser = torch.optim.AdamW(self.online.parameters(), lr=1e-3, weight_decay=1e-5, fused=True)
        self.ring = [torch.zeros(50_000, dtype=torch.int64), torch.zeros(50_000, dtype=torch.int64)]
        self.ring.append(torch.zeros(50_000))
        self.at, self.length, self.steps = 0, 0, 0
        self.act(20_000)

    def act(self, count):
        rows = torch.randint(STATES, (count,))
        self.online.eval()
        with torch.no_grad():
            action = self.online(self.states[rows]).argmax(1)
        self.online.train()
        explore = torch.rand(count) < 0.1
        action = torch.where(explore, torch.randint(21, (count,)), action)
        fused = self.anomaly[rows] + action / 20.0 * (self.gat[rows] - self.anomaly[rows])
        right = (fused > 0.5).float() == self.label[rows]
        reward = torch.where(right, 1.0, -1.0) * (3 + 3 * (fused - 0.5).abs())
        places = (torch.arange(count) + self.at) % 50_000
        for ring, values in zip(self.ring, (rows, action, reward)):
            ring[places] = values
        self.at, self.length = (self.at + count) % 50_000, min(50_000, self.length + count)
        return count

    def learn(self, steps):
        for _ in range(steps):
            drawn = torch.randint(self.length, (128,))
            rows, action, reward = (ring[drawn] for ring in self.ring)
            states = self.states[rows]
            with torch.no_grad():
                self.online.eval()
                best = self.online(states).argmax(1, keepdim=True)
                self.online.train()
                goal = reward + 0.99 * self.target(states).gather(1, best).squeeze(1)
            value = self.online(states).gather(1, action.unsqueeze(1)).squeeze(1)
            loss = F.huber_loss(value, goal)
            self.optimiser.zero_grad(set_to_none=False)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.online.parameters(), 1.0)
            self.optimiser.step()
            self.steps += 1
            if self.steps % 50 == 0:
                self.target.load_state_dict(self.online.state_dict())
        return steps


def work_of(case, folder, batch):
    if case.startswith("dqn"):
        agent = Dqn()
        return (lambda: agent.act(20_000)) if case == "dqn-act" else (lambda: agent.learn(16))
    arrays = load_graphs(os.path.join(folder, "train.graphs"))
    num_ids, data = int(arrays["node_id"].max()) + 2, batches(arrays, batch)
    kind, size, mode = case.split("-")
    if kind == "gat":
        model, dropout = Gat(num_ids, GAT[size]), {"large": 0.2, "small": 0.1}[size]
        if mode == "infer":
            return inference(model, lambda b: gat_logits(model, b, 0.0), data)
        return training(model, lambda b: F.cross_entropy(gat_logits(model, b, dropout), b["label"]), data)
    model = Vgae(num_ids, VGAE)
    if mode == "infer":
        return inference(model, lambda b: vgae_scores(model, b), data)
    return training(model, lambda b: vgae_loss(model, b, 0.15), data, lr=2e-3)


def main():
    case, folder, batch, threads = sys.argv[1:5]
    torch.set_num_threads(int(threads))
    torch.manual_seed(1)
    torch.set_default_device(DEVICE)
    work = work_of(case, folder, int(batch))
    for _ in range(3):
        work()
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        began, cpu, units = time.perf_counter(), time.process_time(), 0
        while time.perf_counter() - began < float(line):
            units += work()
        if DEVICE.type == "cuda":
            torch.cuda.synchronize(DEVICE)
        answer = {"units": units, "wall_s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu}
        answer["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        if DEVICE.type == "cuda":
            answer["peak_mib"] = torch.cuda.max_memory_allocated(DEVICE) >> 20
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
