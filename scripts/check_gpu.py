#!/usr/bin/env python3
"""Checks a card in one call: right results first, then speed beside PyTorch Geometric, memory, and the time of a plan.

    check_gpu.py DATA [--device cuda:0] [--seconds 4] [--rounds 3] [--batch 2048] [--python PY] [--worker BIN]

DATA is the folder of one dataset. Prints Markdown for BENCHMARKS.md. Ends with 1 if losses or gradients on the device
differ from those of plain libtorch on the CPU, before anything is timed. With --device cpu the same is done with the
fused CPU operations, as a rehearsal on a machine without a card (small with --batch 64 --seconds 1 --rounds 1).

What is timed is fp32, the precision that jobs train in. The time of a plan is computed, not measured: windows of the
six published datasets, epochs and episodes of conf/base.yaml (no early stopping), the rates measured here on DATA.
"""

import argparse
import datetime
import json
import os
import re
import statistics
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bench_training as bench  # noqa: E402

# fp32 on both sides; a card sums in another order, and TF32 is off on both.
LOSS_GAP_MAX = 1e-4
GRADIENT_GAP_MAX = 1e-2
# Windows of the training and of the test folders as published, before copies are taken out.
TRAIN_WINDOWS = [145_439, 9_364, 151_089, 203_496, 166_098, 122_405]
TEST_WINDOWS = [39_988, 9_712, 339_976, 385_961, 317_653, 393_317]
VALIDATION_SHARE = 0.2


def main():
    options = arguments()
    python = options.python or bench.make_venv()
    worker = options.worker or bench.build_worker()
    folder = bench.prepare(worker, options.data)
    print(f"{datetime.date.today()}, {device_name(python, options.device)}, {os.cpu_count()} cores\n")
    compare(worker, folder, options.device)
    rates = speed(folder, python, worker, options)
    plan_time(rates)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--device", default="cuda:0", help="cuda:N, or cpu to rehearse")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--batch", type=int, default=2048, help="graphs at once, on both sides")
    parser.add_argument("--python")
    parser.add_argument("--worker")
    return parser.parse_args()


def device_name(python, device):
    if device == "cpu":
        return "CPU (rehearsal)"
    code = f"import torch; print(torch.cuda.get_device_name('{device}'))"
    run = subprocess.run([python, "-c", code], capture_output=True, text=True)
    if run.returncode != 0:
        raise SystemExit(f"{device} does not answer:\n{run.stderr}")
    return run.stdout.strip()


def compare(worker, folder, device):
    environment = {**os.environ, "NVIDIA_TF32_OVERRIDE": "0"}
    command = [worker, "compare", folder, device]
    run = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    print("| model | loss CPU | loss | gap | gradient gap | in |\n|--|--|--|--|--|--|")
    wrong = []
    for model, gap in json.loads(run.stdout).items():
        loss, gradient = gap["loss_gap"], gap["gradient_gap"]
        print(f"| {model} | {gap['loss_cpu']:.6f} | {gap['loss']:.6f} | {loss:.1e} | {gradient:.1e} | {gap['where']} |")
        # A gap that is no number fails as well.
        if not (loss < LOSS_GAP_MAX and gradient < GRADIENT_GAP_MAX):
            wrong.append(model)
    if wrong:
        raise SystemExit(f"losses or gradients of {', '.join(wrong)} on {device} are not those of the CPU")
    print()


def speed(folder, python, worker, options):
    print("| case | batch | ours /s | PyG /s | ratio | peak MiB | PyG MiB |\n|--|--|--|--|--|--|--|")
    rates = {}
    for case, usual in bench.CASES.items():
        batch = usual if case.startswith("dqn") else options.batch
        rounds = bench.measure(case, folder, batch, python, worker, options)
        pairs = [[side["units"] / side["wall_s"] for side in pair] for pair in rounds]
        rates[case] = statistics.median(pair[0] for pair in pairs)
        theirs = statistics.median(pair[1] for pair in pairs)
        ratio = statistics.median(pair[0] / pair[1] for pair in pairs)
        peaks = " | ".join(f"{side['peak_mib']:,}" for side in rounds[-1])
        print(f"| {case} | {batch} | {rates[case]:,.0f} | {theirs:,.0f} | {ratio:.2f} | {peaks} |", flush=True)
    return rates


def plan_time(rates):
    """Minutes of all six datasets one after another. The small VGAE is not timed: the large one's rate stands in."""
    train, test = sum(TRAIN_WINDOWS), sum(TEST_WINDOWS)
    epochs, episodes = setting("epochs"), setting("  episodes")
    samples, steps = setting("  samples_per_episode"), setting("  gradient_steps_per_episode")
    seen = train * (1 - VALIDATION_SHARE) * epochs
    judged = train * VALIDATION_SHARE * epochs + train + test
    gat, vgae = rates["gat-large-infer"], rates["vgae-large-infer"]
    judging = judged / gat + judged / vgae
    teaching = train / gat + train / vgae
    phases = {
        "teacher": seen / rates["vgae-large-train"] + seen / rates["gat-large-train"] + judging,
        "student": seen / rates["vgae-large-train"] + seen / rates["gat-small-train"] + teaching + judging,
        "fusion": (train + test) * (1 / gat + 1 / vgae)
        + 6 * episodes * (samples / rates["dqn-act"] + steps / rates["dqn-learn"]),
    }
    print("\n| phase | minutes, six datasets |\n|--|--|")
    for phase, seconds in phases.items():
        print(f"| {phase} | {seconds / 60:,.1f} |")
    print(f"| all | {sum(phases.values()) / 60:,.1f} |")


def setting(key):
    with open(os.path.join(bench.ROOT, "conf", "base.yaml"), encoding="utf-8") as file:
        return int(re.search(rf"^{key}: (\d+)", file.read(), re.MULTILINE).group(1))


if __name__ == "__main__":
    main()
