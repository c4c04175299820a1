"""Reading only the needed parts of a big wheel over HTTP ranges.

The parts are written at their own offsets into a sparse file of the wheel's size, so that the unpacking
code is the same for a whole wheel and for this one; what was left out are holes that nobody reads.
"""

import http.client
import io
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
import zipfile

CONNECT_LIMIT_S = 60
# Without any progress; an answer that brought something starts the count anew.
ATTEMPTS = 5
RETRY_PAUSE_S = 1
BLOCK = 1 << 18
# Two wanted parts closer than this are read in one request.
JOIN_GAP = 1 << 18


class NoRanges(Exception):
    """The server, a proxy or the certificates do not let us read parts; the whole wheel is the way then."""


def _open(url, first, last):
    request = urllib.request.Request(
        url, headers={"Range": f"bytes={first}-{last}", "Accept-Encoding": "identity"}
    )
    answer = urllib.request.urlopen(request, timeout=CONNECT_LIMIT_S)
    if answer.status != 206:
        answer.close()
        raise NoRanges(f"the server answered {answer.status} to a range request")
    return answer


def _copy(url, file, first, last, progress):
    """Writes bytes first..=last of the wheel at the same offset of `file`; goes on after a broken line."""
    at, failures = first, 0
    while at <= last:
        began = at
        reason = "the server ended its answer early"
        try:
            with _open(url, at, last) as answer:
                file.seek(at)
                while block := answer.read(min(BLOCK, last + 1 - at)):
                    file.write(block)
                    at += len(block)
                    progress(len(block))
        # Not OSError: that would swallow a full disk.
        except (
            urllib.error.URLError,
            http.client.HTTPException,
            ssl.SSLError,
            ConnectionError,
            TimeoutError,
        ) as error:
            reason = str(error)
        if at <= last:
            failures = failures + 1 if at == began else 1
            if failures == ATTEMPTS:
                raise NoRanges(reason)
            time.sleep(failures * RETRY_PAUSE_S)


class _Wheel(io.RawIOBase):
    """The wheel as a file for `zipfile`, which reads little but the directory at its end."""

    def __init__(self, url, sparse, size):
        super().__init__()
        self.url, self.sparse, self.size, self.at = url, sparse, size, 0

    def seekable(self):
        return True

    def readable(self):
        return True

    def tell(self):
        return self.at

    def seek(self, offset, whence=io.SEEK_SET):
        self.at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.size}[whence]
        return self.at

    def read(self, count=-1):
        end = self.size if count is None or count < 0 else min(self.size, self.at + count)
        if end <= self.at:
            return b""
        _copy(self.url, self.sparse, self.at, end - 1, lambda _: None)
        self.sparse.seek(self.at)
        data = self.sparse.read(end - self.at)
        self.at = end
        return data


def fetch(url, wanted, path, label):
    """Makes `path` a sparse copy of the wheel at `url`, holding the entries for which `wanted(name)` is true.

    Unchecked: the caller checks each file against a pinned list. Raises NoRanges."""
    try:
        with _open(url, 0, 0) as answer:
            size = int(answer.headers["Content-Range"].rsplit("/", 1)[1])
    except (urllib.error.URLError, OSError, TypeError, ValueError) as error:
        raise NoRanges(str(error)) from error
    with open(path, "w+b") as sparse:
        sparse.truncate(size)
        with zipfile.ZipFile(_Wheel(url, sparse, size)) as directory:
            spans = _spans(directory.infolist(), wanted, directory.start_dir)
        report = Progress(label, sum(last + 1 - first for first, last in spans), size)
        for first, last in spans:
            _copy(url, sparse, first, last, report)
        report.close()
        sparse.flush()
        os.fsync(sparse.fileno())


def _spans(entries, wanted, end_of_entries):
    """The joined (first, last) byte spans of the wanted entries; an entry ends where the next one begins."""
    entries = sorted(entries, key=lambda entry: entry.header_offset)
    ends = [entry.header_offset for entry in entries[1:]] + [end_of_entries]
    spans = []
    for entry, end in zip(entries, ends):
        if not wanted(entry.filename):
            continue
        if spans and entry.header_offset - spans[-1][1] <= JOIN_GAP:
            spans[-1][1] = end - 1
        else:
            spans.append([entry.header_offset, end - 1])
    return spans


class Progress:
    """One line that grows on a terminal, a line each quarter elsewhere."""

    def __init__(self, label, total, whole):
        self.label, self.total, self.done, self.told = label, total, 0, 0
        self.live = sys.stderr.isatty()
        print(f"{label}: {total / 1e6:.0f} MB of a {whole / 1e6:.0f} MB wheel", file=sys.stderr, flush=True)

    def __call__(self, count):
        self.done += count
        step = 1 if self.live else 25
        percent = self.done * 100 // self.total
        if percent >= self.told + step:
            self.told = percent - percent % step
            print(
                f"{self.label}: {self.told} %", end="\r" if self.live else "\n", file=sys.stderr, flush=True
            )

    def close(self):
        if self.live:
            print(" " * 60, end="\r", file=sys.stderr, flush=True)
