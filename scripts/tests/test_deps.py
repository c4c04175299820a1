"""Set-up without a network: a local server, small wheels made here, folders that are broken on purpose."""

import hashlib
import http.server
import io
import os
import re
import sys
import tempfile
import threading
import unittest
import zipfile
from unittest import mock

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from deps import errors, pins, present, ranges, recipes, stamps, store  # noqa: E402

TOOL = "nats-server"
NAMES = ("pkg/include/a.h", "pkg/lib/big.so", "pkg/lib/wanted.so")


def _wheel(path, fill=b"w"):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in NAMES:
            archive.writestr(name, fill * (3_000_000 if "big" in name else 1000))


class _Server(http.server.BaseHTTPRequestHandler):
    """Serves one file by ranges; of the first `cuts` answers only the share `keep` comes; counts bytes."""

    content, with_ranges, cuts, keep, sent = b"", True, 0, 0.5, 0

    def do_GET(self):
        kind = type(self)
        first, last = map(int, re.match(r"bytes=(\d+)-(\d+)", self.headers["Range"]).groups())
        body = kind.content[first : last + 1] if kind.with_ranges else kind.content
        self.send_response(206 if kind.with_ranges else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(kind.content)}")
        self.end_headers()
        if kind.cuts and len(body) > 500:
            kind.cuts -= 1
            body = body[: int(len(body) * kind.keep)]
        kind.sent += len(body)
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        for patch in (
            mock.patch("sys.stderr", io.StringIO()),
            mock.patch.object(ranges, "RETRY_PAUSE_S", 0.01),
        ):
            patch.start()
            self.addCleanup(patch.stop)

    def path(self, *parts):
        return os.path.join(self.folder, *parts)


class RangesTest(Case):
    def serve(self, **settings):
        _wheel(self.path("w.whl"))
        with open(self.path("w.whl"), "rb") as file:
            handler = type("Handler", (_Server,), {"content": file.read(), **settings})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return f"http://127.0.0.1:{server.server_port}/w.whl", handler

    def fetch(self, url):
        ranges.fetch(url, lambda name: "big" not in name, self.path("parts"), "test")
        with zipfile.ZipFile(self.path("parts")) as archive:
            return archive.read(NAMES[0]), archive.read(NAMES[2])

    def test_reads_the_wanted_files_and_leaves_the_big_one(self):
        url, handler = self.serve()
        self.assertEqual(self.fetch(url), (b"w" * 1000, b"w" * 1000))
        self.assertLess(handler.sent, 200_000)

    def test_goes_on_after_a_broken_line(self):
        url, _ = self.serve(cuts=3)
        self.assertEqual(self.fetch(url), (b"w" * 1000, b"w" * 1000))

    def test_a_line_that_never_holds_is_given_up(self):
        url, _ = self.serve(cuts=10**6, keep=0)
        with self.assertRaises(ranges.NoRanges):
            self.fetch(url)

    def test_a_server_without_ranges_is_told(self):
        url, _ = self.serve(with_ranges=False)
        with self.assertRaises(ranges.NoRanges):
            self.fetch(url)


class StoreTest(Case):
    """The recipe is replaced by one that writes a file: caching, placing and mending are what is tested."""

    def setUp(self):
        super().setUp()
        self.made = 0
        self.root, self.deps = self.path("cache"), self.path("deps")
        os.makedirs(self.root)
        os.makedirs(self.deps)
        patch = mock.patch.object(recipes, "make", self.make)
        patch.start()
        self.addCleanup(patch.stop)

    def make(self, item, tree, scratch):
        self.made += 1
        os.makedirs(tree)
        with open(os.path.join(tree, item), "w") as file:
            file.write("good")

    def place(self):
        store.place(store.ensure_cached(self.root, TOOL), self.deps, TOOL)

    def placed(self):
        with open(os.path.join(self.deps, "bin", TOOL)) as file:
            return file.read()

    def test_a_second_checkout_is_served_from_the_cache(self):
        self.assertFalse(stamps.is_placed(self.deps, TOOL))
        self.place()
        self.assertTrue(stamps.is_placed(self.deps, TOOL))
        self.deps = self.path("other")
        os.makedirs(self.deps)
        self.place()
        self.assertEqual((self.placed(), self.made), ("good", 1))

    def test_a_file_changed_in_place_is_seen_and_fetched_anew(self):
        self.place()
        with open(os.path.join(self.deps, "bin", TOOL), "w") as file:
            file.write("bad!")
        os.utime(os.path.join(self.deps, "bin", TOOL), ns=(1, 1))
        self.assertFalse(stamps.is_placed(self.deps, TOOL))
        self.place()
        self.assertEqual((self.placed(), self.made), ("good", 2))

    def test_a_removed_file_is_put_back_from_the_cache(self):
        self.place()
        os.unlink(os.path.join(self.deps, "bin", TOOL))
        self.assertFalse(stamps.is_placed(self.deps, TOOL))
        self.place()
        self.assertEqual((self.placed(), self.made), ("good", 1))

    def test_leftovers_of_a_killed_run_go_and_a_failed_recipe_leaves_nothing(self):
        os.makedirs(os.path.join(self.root, "tmp-killed", "entry"))
        with mock.patch.object(recipes, "make", side_effect=OSError(28, "No space left")):
            with self.assertRaises(OSError) as caught:
                store.ensure_cached(self.root, TOOL)
        self.assertEqual(os.listdir(self.root), [])
        self.assertIn("disk is full", errors.from_os_error(caught.exception).what)

    def test_new_pins_make_the_stamp_stale(self):
        self.place()
        with mock.patch.object(pins, "RECIPE_VERSION", pins.RECIPE_VERSION + 1):
            self.assertFalse(stamps.is_placed(self.deps, TOOL))


class RecordTest(Case):
    def test_a_file_that_differs_from_the_list_is_refused(self):
        _wheel(self.path("w.whl"))
        with zipfile.ZipFile(self.path("w.whl")) as archive:
            good = {NAMES[0]: hashlib.sha256(b"w" * 1000).hexdigest()}
            recipes._extract(archive, NAMES[0], self.path("out", "a.h"), good)
            for record in ({NAMES[0]: "00"}, {}):
                with self.assertRaises(errors.SetupError):
                    recipes._extract(archive, NAMES[0], self.path("out", "b.h"), record)


class PresentTest(Case):
    def program(self, folder, version):
        os.makedirs(self.path(folder))
        with open(self.path(folder, "nats-server"), "w") as file:
            file.write(f"#!/bin/sh\necho 'nats-server: v{version}'\n")
        os.chmod(self.path(folder, "nats-server"), 0o755)
        return self.path(folder)

    def test_an_old_nats_server_is_refused_with_the_reason(self):
        old, new = self.program("old", "2.9.10"), self.program("new", "2.12.0")
        with mock.patch.dict(os.environ, PATH=f"{old}:{new}"):
            path, refused = present.nats_server()
        self.assertEqual(path, os.path.join(new, "nats-server"))
        self.assertEqual(len(refused), 1)
        self.assertRegex(refused[0], r"2\.9\.10 was refused: .*2\.12")

    def test_a_libtorch_of_another_version_is_refused(self):
        os.makedirs(self.path("lib"))
        open(self.path("lib", "libtorch_cpu.so"), "w").close()
        for version, good in (("2.11.0+cu130\n", True), ("2.13.0\n", False)):
            with open(self.path("build-version"), "w") as file:
                file.write(version)
            if good:
                self.assertIn("2.11.0", present.libtorch({"LIBTORCH": self.folder}))
            else:
                with self.assertRaises(errors.SetupError):
                    present.libtorch({"LIBTORCH": self.folder})
        with self.assertRaises(errors.SetupError):
            present.libtorch({"LIBTORCH": self.path("nowhere")})


if __name__ == "__main__":
    unittest.main()
