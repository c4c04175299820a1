#!/usr/bin/env python3
"""Puts what the build and the tests need into `.deps`: pinned, checked, safe to interrupt and to repeat.

    setup.py [--tests] [--lint] [--quiet]     fetch what is missing
    setup.py --libtorch-folder                print the libtorch folder of the per-user cache (after a set-up)

libtorch and nats-server always; with --tests the S3 server (weed) that tests start; with --lint cargo-deny.
Left to the machine when it has them: LIBTORCH, LIBTORCH_USE_PYTORCH=1, a nats-server >= 2.12 on PATH.
"""

import os
import sys

# No __pycache__ in the checkout.
sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DEPS = os.path.join(ROOT, ".deps")
FLAGS = ("--tests", "--lint", "--quiet", "--libtorch-folder")


def main(arguments):
    unknown = [word for word in arguments if word not in FLAGS]
    if unknown or sys.version_info < (3, 9):
        print(__doc__ if unknown else "setup.py needs python3 >= 3.9", file=sys.stderr)
        return 0 if unknown in (["-h"], ["--help"]) else 2
    import signal

    from deps import errors

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return _run(arguments)
    except errors.SetupError as error:
        print(f"set-up: {error.what}\n  way out: {error.mend}", file=sys.stderr)
    except OSError as error:
        told = errors.from_os_error(error)
        print(f"set-up: {told.what}\n  way out: {told.mend}", file=sys.stderr)
    except KeyboardInterrupt:
        print("\nset-up: interrupted; run it again and it goes on", file=sys.stderr)
        return 130
    return 1


def _run(arguments):
    if "--libtorch-folder" in arguments:
        from deps import store

        print(os.path.join(store.entry_of(store.cache_root(DEPS), "libtorch"), "tree"))
        return 0
    items = ["libtorch", "nats-server"]
    items += ["weed"] if "--tests" in arguments else []
    items += ["cargo-deny"] if "--lint" in arguments else []
    told = []
    missing = [item for item in items if not _is_there(item, told)]
    if missing:
        from deps import present

        present.build_tools()
        _fetch(missing)
    if missing or "--quiet" not in arguments:
        for line in told or ["set-up: all there (.deps)"]:
            print(line, file=sys.stderr)
    return 0


def _is_there(item, told):
    from deps import stamps

    # LIBTORCH may name the very folder we are to fill.
    chosen = os.path.realpath(os.environ.get("LIBTORCH", DEPS)) != os.path.realpath(
        os.path.join(DEPS, "libtorch")
    )
    if item == "libtorch" and chosen and ("LIBTORCH" in os.environ or "LIBTORCH_USE_PYTORCH" in os.environ):
        from deps import present

        told.append(f"set-up: {present.libtorch(os.environ)}")
        return True
    if stamps.is_placed(DEPS, item):
        return True
    if item == "nats-server":
        from deps import present

        path, refused = present.nats_server()
        told.extend(f"set-up: {line}" for line in refused)
        if path is not None:
            told.append(f"set-up: nats-server from {path}")
            return True
    return False


def _fetch(items):
    from deps import stamps, store

    os.makedirs(DEPS, exist_ok=True)
    root = store.cache_root(DEPS)
    with store.lock(DEPS):
        for item in items:
            # Another run may have placed it while we waited for the lock.
            if stamps.is_placed(DEPS, item):
                continue
            with store.lock(root):
                entry = store.ensure_cached(root, item)
                store.place(entry, DEPS, item)
            print(f"set-up: {item} is in place", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
