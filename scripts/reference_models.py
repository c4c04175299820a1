"""The published models, put together from PyTorch Geometric's and PyTorch's own layers, under the parameter
names of the published Python classes. Used to make reference numbers and to load our `.pth` files strictly.

A batch is a dict: `in.node_id` [N], `in.x` [N, 10], `in.src` and `in.dst` [M], `in.graph` [N].
"""

import torch
from torch import nn
from torch_geometric.nn import GATConv, JumpingKnowledge, global_mean_pool

FEATURES = 10


def block(inputs, outputs):
    return nn.Linear(inputs, outputs), nn.ReLU(), nn.Dropout(0.0)


def edges_of(batch):
    return torch.stack([batch["in.src"], batch["in.dst"]])


def node_input(table, batch):
    return torch.cat([table(batch["in.node_id"]), batch["in.x"]], 1)


class Gat(nn.Module):
    """`arch` as in model.json: id_embedding, layers, heads, hidden, fc_layers."""

    def __init__(self, num_ids, arch):
        super().__init__()
        self.id_embedding = nn.Embedding(num_ids, arch["id_embedding"])
        width = arch["heads"] * arch["hidden"]
        inputs = [arch["id_embedding"] + FEATURES] + [width] * (arch["layers"] - 1)
        self.convs = nn.ModuleList(GATConv(i, arch["hidden"], heads=arch["heads"]) for i in inputs)
        self.jk = JumpingKnowledge("cat")
        pooled = width * arch["layers"]
        rest = [m for _ in range(arch["fc_layers"] - 1) for m in block(pooled, pooled)]
        self.fc_layers = nn.ModuleList([*rest, nn.Linear(pooled, 2)])

    def forward(self, batch):
        """Logits [G, 2] and pooled embedding [G, layers * heads * hidden]."""
        x = node_input(self.id_embedding, batch)
        layers = []
        for conv in self.convs:
            x = conv(x, edges_of(batch)).relu()
            layers.append(x)
        embedding = x = global_mean_pool(self.jk(layers), batch["in.graph"])
        for layer in self.fc_layers:
            x = layer(x)
        return x, embedding


class Vgae(nn.Module):
    """`arch` as in model.json: id_embedding, encoder, latent, decoder, neighbourhood_hidden."""

    def __init__(self, num_ids, arch):
        super().__init__()
        self.id_embedding = nn.Embedding(num_ids, arch["id_embedding"])
        latent, hidden = arch["latent"], arch["neighbourhood_hidden"]
        self.encoder_layers, self.encoder_bns, width = stack(
            arch["id_embedding"] + FEATURES, arch["encoder"]
        )
        self.z_mean = nn.Linear(width, latent)
        self.z_logvar = nn.Linear(width, latent)
        self.decoder_layers, self.decoder_bns, width = stack(latent, arch["decoder"])
        self.decoder_layers.append(GATConv(width, FEATURES))
        self.canid_classifier = nn.Linear(latent, num_ids)
        rest = [*block(latent, hidden), *block(hidden, hidden)]
        self.neighborhood_decoder = nn.Sequential(*rest, nn.Linear(hidden, num_ids))

    def forward(self, batch):
        """Mean and log variance of z (decoded at its mean), features, id logits, neighbourhood logits."""
        edges = edges_of(batch)
        x = node_input(self.id_embedding, batch)
        for conv, norm in zip(self.encoder_layers, self.encoder_bns):
            x = norm(conv(x, edges)).relu()
        mean, logvar = self.z_mean(x), self.z_logvar(x).clamp(-20, 20)
        x = mean
        for conv, norm in zip(self.decoder_layers, self.decoder_bns):
            x = norm(conv(x, edges)).relu()
        features = self.decoder_layers[-1](x, edges).sigmoid()
        return mean, logvar, features, self.canid_classifier(mean), self.neighborhood_decoder(mean)


def stack(inputs, layers):
    """Convolutions with their normalisations, and the width that comes out."""
    convs, norms = nn.ModuleList(), nn.ModuleList()
    for layer in layers:
        convs.append(GATConv(inputs, layer["width"], heads=layer["heads"]))
        inputs = layer["heads"] * layer["width"]
        norms.append(nn.BatchNorm1d(inputs))
    return convs, norms, inputs


class QNet(nn.Module):
    """`arch` as in model.json: layers, hidden, actions. States of 15 numbers to values of actions."""

    def __init__(self, arch):
        super().__init__()
        inputs, modules = 15, []
        for _ in range(arch["layers"]):
            hidden = arch["hidden"]
            modules += [nn.Linear(inputs, hidden), nn.LayerNorm(hidden), nn.ReLU(), nn.Dropout(0.0)]
            inputs = hidden
        self.net = nn.Sequential(*modules, nn.Linear(inputs, arch["actions"]))

    def forward(self, states):
        return self.net(states)
