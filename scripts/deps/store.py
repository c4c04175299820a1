"""The per-user cache of finished items, the locks, and placing an item into a checkout's `.deps`.

A cache entry `ITEM-DIGEST/` holds `tree/` and `manifest.json` (size and sha256 of each file). It is made
beside and renamed, so it is whole or not there. A checkout gets hard links (copies where the disks differ)
and a stamp.
"""

import contextlib
import fcntl
import json
import os
import shutil
import sys
import tempfile
import time

from . import recipes, stamps
from .errors import SetupError
from .pins import ITEMS, digest
from .wheels import sha256_of

LOCK_LIMIT_S = 1800
SPACE_MB = {"libtorch": 1000}


def cache_root(deps):
    """`$XDG_CACHE_HOME/coord/deps` or `~/.cache/coord/deps`; `.deps/cache` where neither can be written."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    for root in (os.path.join(base, "coord", "deps"), os.path.join(deps, "cache")):
        try:
            os.makedirs(root, exist_ok=True)
        except OSError:
            continue
        if os.access(root, os.W_OK):
            return root
    raise SetupError(f"neither {base} nor {deps} can be written", "set XDG_CACHE_HOME to a folder of yours")


def entry_of(root, item):
    """Where the cache keeps `item` of exactly these pins."""
    return os.path.join(root, f"{item}-{digest(item)}")


@contextlib.contextmanager
def lock(folder):
    """One set-up at a time in `folder`; the kernel frees the lock when its holder dies."""
    path = os.path.join(folder, "lock")
    with open(path, "a", encoding="ascii") as file:
        give_up = time.monotonic() + LOCK_LIMIT_S
        told = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    print(f"set-up: another set-up holds {path}; waiting", file=sys.stderr, flush=True)
                    told = True
                if time.monotonic() > give_up:
                    raise SetupError(
                        f"another set-up held {path} for {LOCK_LIMIT_S} s",
                        f"end it (`fuser {path}` names it) and run it again",
                    ) from None
                time.sleep(0.2)
        yield


def ensure_cached(root, item):
    """The cache entry of `item`, checked file by file, made anew when missing or damaged.

    Needs the lock of `root`."""
    entry = entry_of(root, item)
    if os.path.isdir(entry):
        damage = _damage(entry)
        if damage is None:
            return entry
        print(
            f"set-up: the cached {item} is damaged ({damage}); fetching it again", file=sys.stderr, flush=True
        )
        _remove(entry)
    # We hold the lock: what is still lying here was left by a run that was killed.
    for name in os.listdir(root):
        if name.startswith("tmp-"):
            _remove(os.path.join(root, name))
    _check_space(root, item)
    scratch = tempfile.mkdtemp(prefix="tmp-", dir=root)
    try:
        made = os.path.join(scratch, "entry")
        recipes.make(item, os.path.join(made, "tree"), scratch)
        manifest = {
            name: [os.path.getsize(path), sha256_of(path)]
            for name, path in _files(os.path.join(made, "tree"))
        }
        stamps.write_json(os.path.join(made, "manifest.json"), manifest)
        os.rename(made, entry)
    finally:
        _remove(scratch)
    return entry


def _check_space(root, item):
    free_mb = shutil.disk_usage(root).free // 1_000_000
    need_mb = SPACE_MB.get(item, 0)
    if free_mb < need_mb:
        raise SetupError(
            f"{root} has {free_mb} MB free, {item} needs {need_mb} MB while it is unpacked",
            "free some space, or point XDG_CACHE_HOME at a larger disk, and run it again",
        )


def _damage(entry):
    """The first thing wrong with a cache entry, or None."""
    try:
        with open(os.path.join(entry, "manifest.json"), encoding="utf-8") as file:
            manifest = json.load(file)
    except (OSError, ValueError) as error:
        return str(error)
    for name, (size, sha256) in manifest.items():
        path = os.path.join(entry, "tree", name)
        try:
            if os.path.getsize(path) != size or sha256_of(path) != sha256:
                return f"{name} has changed"
        except OSError as error:
            return str(error)
    return None


def place(entry, deps, item):
    """Puts a checked cache entry into `.deps` and stamps it. Needs the lock of `deps`."""
    target = os.path.join(deps, ITEMS[item][1])
    tree = os.path.join(entry, "tree")
    for name in os.listdir(deps):
        if name.startswith("tmp-"):
            _remove(os.path.join(deps, name))
    scratch = tempfile.mkdtemp(prefix="tmp-", dir=deps)
    try:
        fresh = os.path.join(scratch, "fresh")
        for name, path in _files(tree):
            _link(path, os.path.join(fresh, name))
        # A program's tree holds one file of the program's name; a library's tree is the target itself.
        source = os.path.join(fresh, os.path.basename(target))
        source = source if os.path.isfile(source) else fresh
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if os.path.lexists(target):
            os.rename(target, os.path.join(scratch, "old"))
        os.rename(source, target)
    finally:
        _remove(scratch)
    files = {target: target} if os.path.isfile(target) else dict(_files(target))
    stamps.write(deps, item, files.values())


def _files(folder):
    for where, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(where, name)
            yield os.path.relpath(path, folder), path


def _link(source, target):
    os.makedirs(os.path.dirname(target), exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        # Another disk, or a file system without hard links.
        shutil.copy2(source, target)


def _remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    elif os.path.lexists(path):
        os.unlink(path)
