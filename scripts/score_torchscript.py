#!/usr/bin/env python3
"""Scores windows with a student and a fusion agent as TorchScript; needs torch and nothing else of ours.

    python score_torchscript.py final_student_model_X.pt fusion_agent_X.pt
"""

import sys

import torch

student, agent = torch.jit.load(sys.argv[1]), torch.jit.load(sys.argv[2])
# Two windows of three and two ids: node features [N, 10] as ML pipelines of this project make them, the
# transitions between nodes, and the window of each node.
node_id, graph = torch.tensor([0, 1, 2, 0, 1]), torch.tensor([0, 0, 0, 1, 1])
src, dst = torch.tensor([0, 1, 2, 3, 4]), torch.tensor([1, 2, 0, 4, 3])
rows = student(node_id, torch.rand(5, 10), src, dst, graph)
fused = agent(rows)
for window, (row, score) in enumerate(zip(rows, fused)):
    gat, vgae = bool(row[0] > student.gat_threshold), bool(row[1] > student.vgae_threshold)
    print(f"window {window}: gat {gat}, vgae {vgae}, fusion {bool(score > agent.threshold)} ({score:.3f})")
