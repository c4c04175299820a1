#!/usr/bin/env python3
"""Loads a `.pth` of ours into PyTorch Geometric's modules, strictly, and compares outputs.

    python check_pth.py MODEL.pth ARCH.json NUMBERS.safetensors

ARCH.json: {"num_ids": n, "gat": {..}, "vgae": {..}}, as in model.json. NUMBERS: a batch (`in.`, see
reference_models.py) and what the trainer made of it (`out.logits`, `out.mean`, `out.features`).
"""

import json
import sys

import torch
from reference_models import Gat, Vgae
from safetensors.torch import load_file


def main(pth, arch, numbers):
    arch, numbers = json.load(open(arch)), load_file(numbers)
    weights = torch.load(pth, weights_only=True)
    gat, vgae = Gat(arch["num_ids"], arch["gat"]).eval(), Vgae(arch["num_ids"], arch["vgae"]).eval()
    gat.load_state_dict(weights["gat"], strict=True)
    vgae.load_state_dict(weights["vgae"], strict=True)
    with torch.no_grad():
        logits, _ = gat(numbers)
        mean, _, features, _, _ = vgae(numbers)
    for name, ours in {"logits": logits, "mean": mean, "features": features}.items():
        torch.testing.assert_close(ours, numbers[f"out.{name}"], rtol=1e-5, atol=1e-5)
    print("loaded strictly, outputs agree")


if __name__ == "__main__":
    main(*sys.argv[1:])
