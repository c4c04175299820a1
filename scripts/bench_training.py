#!/usr/bin/env python3
"""Training and inference beside PyTorch Geometric, in one run on one machine: prints a table in Markdown.

    bench_training.py DATA [--threads 2] [--rounds 5] [--seconds 4] [--only CASE] [--device cuda:0] [--python PY]
                      [--worker BIN]

DATA is the folder of one dataset. Both sides get the same graphs, batch, threads and allocator settings; they take
turns, so that a busy machine slows both. Figures are medians over the rounds; rates per CPU second are those that
other programs disturb least. Without --python a virtual environment with torch and PyG is made in .deps (2.7 GB to
download); without --worker the release build of examples/bench_worker.rs is made and used.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".deps", "bench-venv")
PACKAGES = ["torch==2.11.0", "torch-geometric==2.7.0", "numpy<3"]
# glibc keeps freed blocks: without this every step pays for page faults, on either side. Our binary sets the same
# itself; libgomp's threads spin shortly, so that they do not hold what the other threads need.
ENVIRONMENT = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "GOMP_SPINCOUNT": "1000",
}
HEAD = """| case | batch | ours /s | PyG /s | ratio | ours /CPU s | PyG /CPU s | ratio | peak MiB | PyG MiB |
|--|--|--|--|--|--|--|--|--|--|"""
CASES = {
    "gat-large-train": 256,
    "gat-small-train": 2048,
    "vgae-large-train": 256,
    "gat-large-infer": 256,
    "vgae-large-infer": 256,
    "dqn-act": 0,
    "dqn-learn": 1,
}


def main():
    options = arguments()
    python = options.python or make_venv()
    worker = options.worker or build_worker()
    folder = prepare(worker, options.data)
    print(HEAD)
    for case in [options.only] if options.only else CASES:
        print(row(case, folder, python, worker, options), flush=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--only", choices=sorted(CASES))
    parser.add_argument("--device", default="cpu", help="cpu or cuda:N")
    parser.add_argument("--python")
    parser.add_argument("--worker")
    return parser.parse_args()


def make_venv():
    python = os.path.join(VENV, "bin", "python")
    if not os.path.exists(os.path.join(VENV, "ready")):
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
        open(os.path.join(VENV, "ready"), "w").close()
    return python


def build_worker():
    command = ["cargo", "build", "--release", "-p", "trainer", "--example", "bench_worker"]
    subprocess.run(command, check=True, cwd=ROOT)
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
    return os.path.join(target, "release", "examples", "bench_worker")


def prepare(worker, data):
    """The folder of the prepared graphs."""
    cache = os.path.join(ROOT, ".coord", "bench-cache")
    os.makedirs(cache, exist_ok=True)
    run = subprocess.run([worker, "prepare", data, cache], check=True, capture_output=True, text=True)
    return run.stdout.strip()


def measure(case, folder, batch, python, worker, options):
    """Rounds, each with the answers of both sides."""
    rest = [case, folder, str(batch), str(options.threads), options.device]
    script = os.path.join(ROOT, "scripts", "bench_worker.py")
    sides = [start([worker, *rest]), start([python, script, *rest])]
    try:
        return [[take_round(side, options.seconds) for side in sides] for _ in range(options.rounds)]
    finally:
        for side in sides:
            side.stdin.close()
            side.wait(timeout=60)


def row(case, folder, python, worker, options):
    batch = CASES[case] if options.batch is None or case.startswith("dqn") else options.batch
    rounds = measure(case, folder, batch, python, worker, options)
    cells = [case, str(batch) if batch > 1 else ""]
    for unit in ("wall_s", "cpu_s"):
        rates = [[side["units"] / side[unit] for side in pair] for pair in rounds]
        ratio = statistics.median(ours / theirs for ours, theirs in rates)
        cells += [f"{statistics.median(side):,.0f}" for side in zip(*rates)] + [f"{ratio:.2f}"]
    cells += [f"{side['peak_mib']:,}" for side in rounds[-1]]
    return "| " + " | ".join(cells) + " |"


def start(command):
    side = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **ENVIRONMENT, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    if not json.loads(side.stdout.readline() or "{}").get("ready"):
        raise SystemExit(f"{command[0]} did not start; its words are above")
    return side


def take_round(side, seconds):
    side.stdin.write(f"{seconds}\n")
    side.stdin.flush()
    return json.loads(side.stdout.readline())


if __name__ == "__main__":
    main()
