"""What the machine already has and set-up leaves to it."""

import os
import re
import shutil
import subprocess

from .errors import SetupError
from .pins import LIBTORCH_VERSION, NATS_MINIMUM

ASK_LIMIT_S = 20
# Debian puts nats-server where a user's PATH does not look.
MORE_PLACES = ("/usr/local/bin", "/usr/sbin", "/usr/local/sbin")


def libtorch(environment):
    """A line saying which libtorch the environment chose, or None; raises when it cannot work."""
    if "LIBTORCH_USE_PYTORCH" in environment:
        return _pytorch(environment)
    folder = environment.get("LIBTORCH")
    if folder is None:
        return None
    way_out = f"unset LIBTORCH to have {LIBTORCH_VERSION} fetched, or point it at an unpacked libtorch"
    if not os.path.exists(os.path.join(folder, "lib", "libtorch_cpu.so")):
        raise SetupError(f"LIBTORCH={folder} holds no lib/libtorch_cpu.so", way_out)
    try:
        with open(os.path.join(folder, "build-version"), encoding="utf-8") as file:
            version = file.read().strip()
    except OSError:
        # Distribution packages have no such file; torch-sys does not check then either.
        version = "of unknown version"
    else:
        _check_version(version, f"LIBTORCH={folder}", environment)
    return f"libtorch {version} from LIBTORCH={folder}"


def _pytorch(environment):
    script = "import importlib.metadata as m; print(m.version('torch'))"
    done = _ask(["python3", "-c", script])
    if done is None:
        raise SetupError(
            "LIBTORCH_USE_PYTORCH is set but python3 has no torch",
            f"install torch=={LIBTORCH_VERSION} there, or unset LIBTORCH_USE_PYTORCH",
        )
    _check_version(done, "LIBTORCH_USE_PYTORCH", environment)
    return f"libtorch {done} of python3's torch"


def _check_version(version, origin, environment):
    if version.split("+")[0] == LIBTORCH_VERSION or "LIBTORCH_BYPASS_VERSION_CHECK" in environment:
        return
    raise SetupError(
        f"{origin} is libtorch {version}; tch is built for {LIBTORCH_VERSION}",
        f"use {LIBTORCH_VERSION}, or unset the variable to have it fetched",
    )


def nats_server():
    """(path of a nats-server that is new enough or None, the reasons why others were refused)."""
    refused, seen = [], set()
    for folder in [*os.environ.get("PATH", "").split(os.pathsep), *MORE_PLACES]:
        path = shutil.which("nats-server", path=folder) if folder else None
        if path is None or os.path.realpath(path) in seen:
            continue
        seen.add(os.path.realpath(path))
        told = _ask([path, "--version"])
        match = re.search(r"v?(\d+)\.(\d+)\.(\d+)", told or "")
        if match is None:
            refused.append(f"{path} was refused: it does not tell its version")
        elif (int(match[1]), int(match[2])) < NATS_MINIMUM:
            refused.append(
                f"{path} {match[0].lstrip('v')} was refused: message TTLs and KV limit markers need "
                f">= {NATS_MINIMUM[0]}.{NATS_MINIMUM[1]}"
            )
        else:
            return path, refused
    return None, refused


def build_tools():
    """Raises when what the build itself needs is missing."""
    hints = {
        "cargo": "install Rust (https://rustup.rs)",
        os.environ.get("CC", "cc").split()[
            0
        ]: "install a C compiler (Debian/Ubuntu: `apt install build-essential`)",
        os.environ.get("CXX", "c++").split()[
            0
        ]: "install a C++ compiler (Debian/Ubuntu: `apt install build-essential`)",
    }
    for name, mend in hints.items():
        if shutil.which(name) is None:
            raise SetupError(f"{name} is not on PATH", f"{mend} and run it again")


def _ask(command):
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=ASK_LIMIT_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 and done.stdout.strip() else None
