"""What a checkout's `.deps` remembers of each item: the pins' digest, and size and mtime of each file when it
was checked. So the next set-up needs one stat a file. Imports little: this is the way of every no-op run.
"""

import json
import os

from .pins import digest


def is_placed(deps, item):
    """True when the stamp is of these pins and each file is as it was when it was checked."""
    try:
        with open(_path(deps, item), encoding="utf-8") as file:
            stamp = json.load(file)
        return stamp["digest"] == digest(item) and all(
            _state(os.path.join(deps, name)) == (size, mtime_ns) for name, size, mtime_ns in stamp["files"]
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def write(deps, item, paths):
    """Stamps `item`, which lies as these files under `deps`."""
    states = [[os.path.relpath(path, deps), *_state(path)] for path in paths]
    os.makedirs(os.path.dirname(_path(deps, item)), exist_ok=True)
    write_json(_path(deps, item), {"digest": digest(item), "files": states})


def write_json(path, value):
    """The whole file or none of it."""
    beside = f"{path}.new"
    with open(beside, "w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


def _path(deps, item):
    return os.path.join(deps, "stamps", f"{item}.json")


def _state(path):
    stat = os.stat(path)
    return stat.st_size, stat.st_mtime_ns
