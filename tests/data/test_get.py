"""``foundad data get``: downloads from a real server on loopback, and archives that are not to be trusted."""

import bz2
import functools
import gzip
import hashlib
import io
import json
import lzma
import os
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, save, write_category, write_yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from test_layouts import LAYOUTS
from test_layouts import dataset as layout_dataset

from foundad.cli import main
from foundad.data import download as downloads
from foundad.data.archive import Limits, unpack
from foundad.data.get import RECORD, get
from foundad.data.verify import build_manifest
from foundad.errors import UserError
from foundad.plan.catalogue import load_catalogue

CONFIGS = load_catalogue(ROOT / "config").datasets
PAGE = "https://example.org/tiny"


class Server:
    """Serves one body at /tiny.tar, with whatever faults a test sets; counts what it was asked for."""

    def __init__(self) -> None:
        self.body = b""
        self.ranges = True
        self.etag = '"one"'
        self.breaks: list[int] = []  # bytes after which the next answers break off
        self.status: list[int] = []  # of the next answers
        self.length = True
        self.claim: str | None = None  # Content-Length, whatever is sent
        self.unasked = False  # answers every request as if for a part
        self.shift = 0  # of where an answer to a range starts
        self.requests: list[str] = []
        self.sent = 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                asked = self.headers.get("Range", "")
                server.requests.append(asked)
                status = server.status.pop(0) if server.status else 200
                if self.path != "/tiny.tar":
                    status = 404
                if status != 200:
                    self.send_error(status)
                    return
                body, start = server.body, 0
                same = self.headers.get("If-Range") in (None, server.etag)
                if asked and server.ranges and same:
                    start = int(asked.removeprefix("bytes=").removesuffix("-")) + server.shift
                    if start >= len(body):
                        self.send_response(416)
                        self.send_header("Content-Range", f"bytes */{len(body)}")
                        self.end_headers()
                        return
                    self.send_response(206)
                    self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
                else:
                    self.send_response(206 if server.unasked else 200)
                if server.etag:
                    self.send_header("ETag", server.etag)
                if server.claim is not None:
                    self.send_header("Content-Length", server.claim)
                elif server.length:
                    self.send_header("Content-Length", str(len(body) - start))
                self.end_headers()
                part = body[start:]
                if server.breaks:
                    part = part[: server.breaks.pop(0)]
                server.sent += len(part)
                self.wfile.write(part)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/tiny.tar"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.setattr(downloads, "WAIT", 0.0)
    found = Server()
    yield found
    found.http.shutdown()
    found.http.server_close()


@functools.cache
def images() -> dict[str, bytes]:
    """The files of two categories, as an archive holds them: in a folder of its own, with a text beside."""
    with tempfile.TemporaryDirectory() as folder:
        for name, seed in (("bolt", 0), ("cloth", 1000)):
            write_category(Path(folder, "Tiny_v1", name), seed, train=3, test=2)
        Path(folder, "Tiny_v1/readme.txt").write_text("Read me")
        Path(folder, "notes.txt").write_text("outside of the dataset")
        noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3)).astype(np.uint8)
        save(noise, Path(folder, "Tiny_v1/noise.png"))  # makes the archive larger than a few packets
        paths = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def tar_of(files: dict[str, bytes], *special: tarfile.TarInfo) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as found:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            found.addfile(info, io.BytesIO(data))
        for info in special:
            found.addfile(info)
    return out.getvalue()


def zip_of(files: dict[str, bytes], kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", kind) as found:
        for name, data in files.items():
            found.writestr(name, data)
    return out.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.fixture
def config(tmp_path: Path, monkeypatch) -> Callable[..., Path]:
    """Writes a config folder with the dataset ``tiny``; keys of its section download can be given."""
    monkeypatch.setenv("TINY_DATASETS", str(tmp_path / "sets"))

    def write(**keys: object) -> Path:
        values = {"title": "Tiny set", "layout": "mvtec", "root": "$TINY_DATASETS/tiny", "licence": "CC BY 4.0"}
        values |= {"source": "drawn here", "categories": ["bolt", "cloth"]}
        values |= {"download": {"page": PAGE, "archive": "tiny.tar", **keys}}
        write_yaml(tmp_path / "config/datasets/tiny.yaml", values)
        return tmp_path / "config"

    return write


def call(folder: Path, *arguments: object) -> int:
    return main(["data", "get", "tiny", "--config", str(folder), *map(str, arguments)])


def failed(capsys, folder: Path, *arguments: object) -> str:
    """The one line that a call ends with; nothing is where the dataset would be."""
    assert call(folder, *arguments) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert not (folder.parent / "sets/tiny").exists()
    assert not list(folder.parent.glob("sets/.tiny.getting/unpacked"))
    return lines[0]


def check_whole(root: Path) -> None:
    found = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    record = json.loads(found.pop(RECORD))
    assert record["licence"] == "CC BY 4.0"
    expected = {name.removeprefix("Tiny_v1/"): data for name, data in images().items() if name.startswith("Tiny_v1/")}
    assert found == expected
    assert not (root.parent / ".tiny.getting").exists()


# ---------------------------------------------------------------------------------------------------- downloads


def test_a_dataset_is_downloaded_checked_and_unpacked(server, config, tmp_path, capsys):
    server.body = tar_of(images())
    digest = hashlib.sha256(server.body).hexdigest()
    folder = config(url=server.url, sha256=digest)
    line = failed(capsys, folder)
    assert line == "dataset tiny: read the licence; if you accept it: foundad data get tiny --accept-licence"
    assert server.requests == []
    assert call(folder, "--accept-licence") == 0
    shown = capsys.readouterr().out
    assert "Tiny set: CC BY 4.0" in shown
    assert PAGE in shown
    assert f"{digest}, as expected" in shown
    check_whole(tmp_path / "sets/tiny")
    assert json.loads((tmp_path / "sets/tiny" / RECORD).read_text())["archives"][0]["sha256"] == digest
    assert main(["data", "check", "tiny", "--config", str(folder), "--results", str(tmp_path / "results")]) == 0
    assert call(folder, "--accept-licence") == 0
    assert "exists already" in capsys.readouterr().out
    assert len(server.requests) == 1


def test_without_a_known_hash_the_one_that_came_is_recorded(server, config, tmp_path, capsys):
    server.body = tar_of(images())
    server.length = False
    assert call(config(url=server.url), "--accept-licence") == 0
    digest = hashlib.sha256(server.body).hexdigest()
    assert f"{digest}, no known hash to compare with" in capsys.readouterr().out
    check_whole(tmp_path / "sets/tiny")


def test_a_broken_connection_is_resumed(server, config, tmp_path):
    server.body = tar_of(images())
    server.breaks = [70_000, 0, 1, 100_000]
    server.status = [200, 200, 503]
    assert call(config(url=server.url), "--accept-licence") == 0
    check_whole(tmp_path / "sets/tiny")
    assert server.requests[0] == ""
    assert all(asked.startswith("bytes=") for asked in server.requests[1:])
    assert server.sent < 1.5 * len(server.body)


def test_the_next_call_goes_on_where_the_last_one_broke(server, config, tmp_path, capsys):
    server.body = tar_of(images())
    server.breaks = [130_000] + [0] * 6
    folder = config(url=server.url)
    line = failed(capsys, folder, "--accept-licence")
    assert "cannot be read" in line
    assert "0.1 MiB are kept, the same call resumes there" in line
    assert PAGE in line
    before = server.sent
    assert call(folder, "--accept-licence") == 0
    check_whole(tmp_path / "sets/tiny")
    assert server.sent - before < len(server.body) - 60_000


@pytest.mark.parametrize("change", ["new version", "no ranges", "no version", "another range"])
def test_what_cannot_be_resumed_is_sent_again(change, server, config, tmp_path, capsys):
    server.body = tar_of(images() | {"Tiny_v1/readme.txt": b"an older text"})
    server.breaks = [130_000] + [0] * 6
    if change == "no version":
        server.etag = ""
    folder = config(url=server.url)
    failed(capsys, folder, "--accept-licence")
    server.body = tar_of(images())
    if change == "new version":
        server.etag = '"two"'
    if change == "no ranges":
        server.ranges = False
    if change == "another range":
        server.shift = -10
    assert call(folder, "--accept-licence") == 0
    check_whole(tmp_path / "sets/tiny")


def test_a_wrong_hash_keeps_nothing(server, config, tmp_path, capsys):
    server.body = tar_of(images())
    line = failed(capsys, config(url=server.url, sha256="0" * 64), "--accept-licence")
    assert f"the file does not have the SHA-256 {'0' * 64}" in line
    assert "--archive tiny.tar" in line
    assert [path.name for path in (tmp_path / "sets/.tiny.getting").iterdir()] == ["lock"]
    assert call(config(url=server.url), "--accept-licence") == 0


@pytest.mark.parametrize(("status", "asked"), [(404, 1), (403, 1), (500, 6), (429, 6)])
def test_what_the_server_says_is_told(status, asked, server, config, capsys):
    server.status = [status] * 9
    line = failed(capsys, config(url=server.url), "--accept-licence")
    assert str(status) in line
    assert f"get tiny.tar at {PAGE}, then: foundad data get tiny --archive tiny.tar" in line
    assert len(server.requests) == asked


def test_no_server_and_no_address(config, capsys):
    assert "ConnectionError" in failed_quickly(capsys, config(url="http://127.0.0.1:9/tiny.tar"))


def failed_quickly(capsys, folder: Path) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(downloads, "WAIT", 0.0)
        return failed(capsys, folder, "--accept-licence")


@pytest.mark.parametrize("claim", ["abc", "-5", "1e9", "9" * 40, "²"])
def test_a_length_that_is_no_number_is_one_line(claim, server, config, capsys):
    server.body, server.claim = tar_of(images()), claim
    assert "the server says its length is" in failed(capsys, config(url=server.url), "--accept-licence")


def test_a_part_that_nobody_asked_for_is_not_taken_for_the_file(server, config, capsys):
    server.body, server.unasked = tar_of(images()), True
    assert "cannot be read (206" in failed(capsys, config(url=server.url), "--accept-licence")


def test_a_web_page_instead_of_the_archive_is_named(server, config, capsys):
    server.body = b"<!DOCTYPE html><html><title>Log in</title></html>"
    folder = config(url=server.url)
    assert "is a web page, not an archive" in failed(capsys, folder, "--accept-licence")
    server.body = tar_of(images())  # the page was not kept
    assert call(folder, "--accept-licence") == 0


# ---------------------------------------------------------------------------------------------------- local archives


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "tar.bz2", "tar.xz", "zip"])
def test_a_local_archive_of_any_kind_is_taken(kind, config, tmp_path):
    packed = {
        "tar": lambda: tar_of(images()),
        "tar.gz": lambda: gzip.compress(tar_of(images())),
        "tar.bz2": lambda: bz2.compress(tar_of(images())),
        "tar.xz": lambda: lzma.compress(tar_of(images())),
        "zip": lambda: zip_of(images()),
    }
    path = tmp_path / "mine"  # its first bytes tell the kind, not its name
    path.write_bytes(packed[kind]())
    assert call(config(), "--archive", path) == 0
    check_whole(tmp_path / "sets/tiny")
    assert path.exists()


def test_several_archives_make_one_dataset(config, tmp_path):
    parts = []
    for category in ("bolt", "cloth"):
        parts.append(tmp_path / f"{category}.zip")
        parts[-1].write_bytes(zip_of({n: d for n, d in images().items() if f"/{category}/" in n}))
    assert call(config(), "--archive", parts[0], "--archive", parts[1]) == 0
    assert {path.name for path in (tmp_path / "sets/tiny").iterdir()} == {"bolt", "cloth", RECORD}


def test_where_nothing_may_be_downloaded_it_says_where_to_get_it(config, capsys):
    line = failed(capsys, config(archive=None), "--accept-licence")
    assert line.endswith("get the archive at https://example.org/tiny, then: foundad data get tiny --archive FILE")
    line = failed(capsys, config(), "--accept-licence")
    assert line == (
        "dataset tiny: it cannot be downloaded automatically: get tiny.tar at https://example.org/tiny, then: "
        "foundad data get tiny --archive tiny.tar"
    )


def test_an_unset_variable_and_another_folder(config, tmp_path, capsys, monkeypatch):
    path = tmp_path / "tiny.tar"
    path.write_bytes(tar_of(images()))
    monkeypatch.delenv("TINY_DATASETS")
    line = failed(capsys, config(), "--archive", path)
    assert "key 'root' is $TINY_DATASETS/tiny, and TINY_DATASETS is not set: export TINY_DATASETS=DIR" in line
    assert call(config(), "--archive", path, "--to", tmp_path / "elsewhere") == 0
    check_whole(tmp_path / "elsewhere/tiny")
    assert f"export TINY_DATASETS={tmp_path}/elsewhere" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a/b.txt": b"text"}, "holds nothing in the layout 'mvtec'"),
        ({n: d for n, d in images().items() if "/cloth/" not in n}, "it lacks cloth"),
        ({n: d for n, d in images().items() if "/cloth/train" not in n}, "it lacks cloth"),
    ],
)
def test_another_archive_is_not_taken(files, message, config, tmp_path, capsys):
    path = tmp_path / "tiny.tar"
    path.write_bytes(tar_of(files))
    assert message in failed(capsys, config(), "--archive", path)


def test_a_folder_that_is_there_is_never_touched(config, tmp_path, capsys):
    (tmp_path / "sets/tiny/bolt").mkdir(parents=True)
    path = tmp_path / "tiny.tar"
    path.write_bytes(tar_of(images()))
    assert call(config(), "--archive", path) == 1
    assert "move it away, then call again" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "sets/tiny").iterdir()] == ["bolt"]
    assert "there is no such file" in failed_elsewhere(capsys, config(), tmp_path)


def failed_elsewhere(capsys, folder: Path, tmp_path: Path) -> str:
    assert call(folder, "--archive", tmp_path / "none.tar", "--to", tmp_path / "x") == 1
    return capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------- archives of strangers


def linked_zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as found:
        info = zipfile.ZipInfo("link")
        info.external_attr = 0o120777 << 16
        found.writestr(info, "/etc/passwd")
    return out.getvalue()


def encrypted_zip() -> bytes:
    data = bytearray(zip_of({"a": b"text"}))
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(magic) + offset] |= 1
    return bytes(data)


def lying_zip() -> bytes:
    """Declares 10 bytes for a member of 100,000."""
    data = bytearray(zip_of({"a": bytes(range(250)) * 400}))
    for magic, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = data.index(magic) + offset
        data[at : at + 4] = (10).to_bytes(4, "little")
    return bytes(data)


def large_header() -> bytes:
    """A tar whose extended header claims a gigabyte."""
    info = tarfile.TarInfo("././@PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, 1 << 30
    return lzma.compress(info.tobuf(tarfile.USTAR_FORMAT) + bytes(1 << 24))


def greedy_xz() -> bytes:
    """An xz file whose header asks its reader for a dictionary of 1.5 GiB."""
    data = bytearray(lzma.compress(tar_of({"a": b"x"}), filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 12}]))
    size = (data[12] + 1) * 4  # of the block's header, whose end is its checksum
    data[12 + 4] = 37  # flags, filter, length of properties, dictionary
    data[12 + size - 4 : 12 + size] = zlib.crc32(data[12 : 12 + size - 4]).to_bytes(4, "little")
    return bytes(data)


ZEROS = bytes(40 << 20)
OUTSIDE = "would lead out of the folder"
HOSTILE = {
    "tar with ../": (lambda: tar_of({"../evil": b"x"}), OUTSIDE),
    "tar with ../ inside": (lambda: tar_of({"a/../../evil": b"x"}), OUTSIDE),
    "tar with an absolute name": (lambda: tar_of({"/tmp/evil": b"x"}), OUTSIDE),
    "tar with a symbolic link": (lambda: tar_of({}, special("a", tarfile.SYMTYPE, "/etc")), "'a' is a link"),
    "tar with a link inside": (lambda: tar_of({"b": b""}, special("a", tarfile.SYMTYPE, "b")), "'a' is a link"),
    "tar with a hard link": (lambda: tar_of({"b": b""}, special("a", tarfile.LNKTYPE, "b")), "'a' is a link"),
    "tar with a character device": (lambda: tar_of({}, special("a", tarfile.CHRTYPE)), "'a' is a device"),
    "tar with a block device": (lambda: tar_of({}, special("a", tarfile.BLKTYPE)), "'a' is a device"),
    "tar with a pipe": (lambda: tar_of({}, special("a", tarfile.FIFOTYPE)), "'a' is a device"),
    "tar with a name twice": (lambda: tar_of({"a": b"x"})[:1024] + tar_of({"a": b"y"}), "holds 'a' twice"),
    "tar with a file as a folder": (lambda: tar_of({"a": b"x", "a/b": b"y"}), "holds 'a/b' twice"),
    "tar with a long name": (lambda: tar_of({"a" * 300: b"x"}), "is too long"),
    "tar with a deep name": (lambda: tar_of({"a/" * 3000 + "b": b"x"}), "is too long"),
    "tar bomb": (lambda: lzma.compress(tar_of({"a": ZEROS})), "unpacks to more than"),
    "tar bomb of many": (lambda: bz2.compress(tar_of({f"{n}": ZEROS[: 4 << 20] for n in range(9)})), "unpacks to more"),
    "tar with a large header": (large_header, "has a header of more than 16 MiB"),
    "tar with too many files": (lambda: tar_of({f"{n}": b"x" for n in range(21)}), "holds more than 20 files"),
    "empty tar": (lambda: tar_of({}) + bytes(10), "is not a tar or zip archive"),
    "zip with ../": (lambda: zip_of({"../evil": b"x"}), OUTSIDE),
    "zip with an absolute name": (lambda: zip_of({"/tmp/evil": b"x"}), OUTSIDE),
    "zip with a drive": (lambda: zip_of({"C:evil": b"x"}), OUTSIDE),
    "zip with backslashes": (lambda: zip_of({"..\\evil": b"x"}), OUTSIDE),
    "zip with a link": (linked_zip, "'link' is a link"),
    "zip bomb": (lambda: zip_of({"a": ZEROS}), "unpacks to more than"),
    "zip that lies": (lying_zip, "truncated or damaged"),
    "zip with a password": (encrypted_zip, "is encrypted"),
    "zip with too many files": (lambda: zip_of({f"{n}": b"x" for n in range(21)}), "holds more than 20 files"),
    "tar that wants gigabytes of memory": (greedy_xz, "Memory usage limit"),
    "tar with a half character": (lambda: tar_of({"\udcff": b"x"}), "is not written in UTF-8"),
    "zip packed with LZMA": (lambda: zip_of({"a": b"x" * 999}, zipfile.ZIP_LZMA), "packed with LZMA"),
    "empty zip": (lambda: zip_of({}), "holds no files"),
    "text": (lambda: b"no archive " * 100, "is not a tar or zip archive"),
    "nothing": (lambda: b"", "is not a tar or zip archive"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_archives_are_refused_in_one_line(kind, tmp_path, capsys, config):
    make, message = HOSTILE[kind]
    path = tmp_path / "hostile"
    path.write_bytes(make())
    target = tmp_path / "deep/target"
    target.mkdir(parents=True)
    with pytest.raises(UserError) as error:
        unpack(path, target, Limits(files=20))
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert not Path("/tmp/evil").exists()
    outside = [p for p in tmp_path.rglob("*") if p.is_file() and target not in p.parents]
    assert outside == [path]
    assert sum(p.stat().st_size for p in target.rglob("*")) < 40 << 20
    if "many files" not in kind:
        assert "hostile: " in failed(capsys, config(), "--archive", path)


@pytest.mark.parametrize("kind", ["tar", "gz", "bz2", "xz", "zip"])
def test_an_archive_that_is_cut_anywhere_is_never_taken_for_whole(kind, tmp_path):
    files = {f"{n:02}/image.png": np.random.default_rng(n).bytes(700 + n) for n in range(6)}
    pack = {"tar": bytes, "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
    whole = zip_of(files) if kind == "zip" else pack[kind](tar_of(files))
    path = tmp_path / "cut"
    # A tar is filled up with empty blocks; of these the first must be there.
    content = 6 * (512 + 1024) + 512 if kind == "tar" else len(whole)
    for length in [*range(0, content, 512), *range(513, content, 1111), *range(content - 12, content)]:
        path.write_bytes(whole[:length])
        target = tmp_path / f"{length}"
        target.mkdir(exist_ok=True)
        with pytest.raises(UserError):
            unpack(path, target)
        shutil.rmtree(target)
    path.write_bytes(whole)
    target.mkdir()
    assert unpack(path, target) == 6
    assert {p.relative_to(target).as_posix(): p.read_bytes() for p in target.rglob("*.png")} == files


def test_a_damaged_byte_is_found(tmp_path):
    files = {"image.png": np.random.default_rng(0).bytes(5000)}
    packed = [zip_of(files), *(pack(tar_of(files)) for pack in (gzip.compress, lzma.compress, bz2.compress))]
    for number, whole in enumerate(packed):
        broken = bytearray(whole)
        broken[len(whole) // 2] ^= 1
        path, target = tmp_path / f"{number}.zip", tmp_path / f"{number}"
        path.write_bytes(broken)
        target.mkdir()
        with pytest.raises(UserError, match=r"truncated or damaged .*; get it again"):
            unpack(path, target)


SMALL = {"a/1.png": bytes(range(256)) * 3, "b.txt": b"text", "c/d/e.bmp": b"x" * 700}
WHOLE = {
    "tar": tar_of(SMALL),
    "gz": gzip.compress(tar_of(SMALL)),
    "xz": lzma.compress(tar_of(SMALL)),
    "zip": zip_of(SMALL),
}


@settings(max_examples=300)
@given(
    st.sampled_from(sorted(WHOLE)),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1),
)
def test_whatever_bytes_an_archive_holds_it_ends_in_one_line_or_in_files(kind, changes):
    data = bytearray(WHOLE[kind])
    for place, change in changes:
        data[int(place * len(data))] ^= change
    with tempfile.TemporaryDirectory() as folder:
        path, target = Path(folder, "archive"), Path(folder, "target")
        path.write_bytes(data)
        target.mkdir()
        message = ""
        try:
            unpack(path, target)
        except UserError as error:
            message = str(error)
        assert len(message.splitlines()) <= 1
        assert set(Path(folder).iterdir()) == {path, target}


# ---------------------------------------------------------------------------------------------------- disks and kills


def run(folder: Path, *arguments: object, prefix: str = "", **options) -> subprocess.CompletedProcess[str]:
    """``foundad data get tiny`` in a process of its own; ``prefix`` is shell code before it."""
    words = " ".join(["-m foundad data get tiny --config", str(folder), *map(str, arguments)])
    command = f"{prefix} {sys.executable} {words}"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        ["sh", "-c", command], env=environment, capture_output=True, text=True, check=False, **options
    )


def test_a_file_size_limit_is_one_line_and_a_rerun_succeeds(config, tmp_path):
    """The kernel refuses to write on: what a full quota looks like, on any machine."""
    path = tmp_path / "tiny.zip"
    path.write_bytes(zip_of(images()))
    limit = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
    done = run(config(), "--archive", path, preexec_fn=limit)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "the disk is full (File too large); free some space, or give --to" in done.stderr
    assert not (tmp_path / "sets/tiny").exists()
    assert run(config(), "--archive", path).returncode == 0
    check_whole(tmp_path / "sets/tiny")


def test_a_download_that_fills_the_disk_goes_on_later(server, config, tmp_path):
    server.body = tar_of(images())
    folder = config(url=server.url)
    limit = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (70_000, resource.RLIM_INFINITY))
    done = run(folder, "--accept-licence", preexec_fn=limit)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "the disk is full (File too large)" in done.stderr
    assert call(folder, "--accept-licence") == 0
    assert server.requests[-1].startswith("bytes=")
    check_whole(tmp_path / "sets/tiny")


def may_mount() -> bool:
    command = ["unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not may_mount(), reason="no user namespaces; the test of the file size limit stands for it")
@pytest.mark.parametrize("compressible", [True, False])
def test_a_full_disk_is_one_line(compressible, config, tmp_path):
    """A file system of 400 KiB: known too small before anything is written, or full in the middle."""
    files = images() | {
        "Tiny_v1/more.bin": bytes(2_000_000) if compressible else np.random.default_rng(0).bytes(2_000_000)
    }
    path = tmp_path / "tiny.zip"
    path.write_bytes(zip_of(files))
    (tmp_path / "sets").mkdir()
    listing = tmp_path / "listing.txt"
    shell = f"mount -t tmpfs -o size=400k tmpfs {tmp_path}/sets && "
    folder = config()
    script = tmp_path / "inside.sh"
    script.write_text(
        f"{shell} {sys.executable} -m foundad data get tiny --config {folder} --archive {path}\n"
        f"code=$?\nfind {tmp_path}/sets > {listing}\nexit $code\n"
    )
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", str(script)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "the disk is full (" in done.stderr
    assert ("No space left on device" in done.stderr) == compressible
    left = {Path(line).name for line in listing.read_text().splitlines()}
    assert left == {"sets", ".tiny.getting", "lock"}


def test_killed_while_unpacking_and_called_again(config, tmp_path):
    files = images() | {f"Tiny_v1/more/{n}.bin": b"x" for n in range(20_000)}
    path = tmp_path / "tiny.tar"
    path.write_bytes(tar_of(files))
    folder = config()
    command = [sys.executable, "-m", "foundad", "data", "get", "tiny", "--config", str(folder), "--archive", str(path)]
    place, root = tmp_path / "sets/.tiny.getting", tmp_path / "sets/tiny"
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE)
    started = place / "unpacked/Tiny_v1/more"
    while not started.exists() and process.poll() is None:
        time.sleep(0.002)
    assert process.poll() is None
    second = run(folder, "--archive", path)
    assert second.returncode == 1
    assert "another foundad data get is running there" in second.stderr
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not root.exists()
    assert started.exists()
    path.write_bytes(tar_of(images()))
    assert call(folder, "--archive", path) == 0
    check_whole(root)


# ---------------------------------------------------------------------------------------------------- the public sets


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_dataset_of_any_layout_is_found_in_its_archive(name, tmp_path):
    """Whatever folders lie around it, as in an archive of GitHub."""
    layout, build, keys, train, normal, defective = LAYOUTS[name]
    build_in = tmp_path / "packing/Set-master/data"
    build_in.mkdir(parents=True)
    build(build_in)
    (tmp_path / "packing/Set-master/docs").mkdir()
    (tmp_path / "packing/Set-master/docs/readme.txt").write_text("Read me")
    archive = tmp_path / "archive.tar"
    with tarfile.open(archive, "w") as packed:
        packed.add(tmp_path / "packing", ".")
    settings = layout_dataset(tmp_path / "sets/mini", layout, **keys)
    get(settings, accepted=False, archives=[archive])
    manifest = build_manifest(settings)
    labels = [row.label for row in manifest.test]
    assert (len(manifest.train), labels.count(0), labels.count(1)) == (train, normal, defective)


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_every_public_dataset_says_how_to_get_it(name, monkeypatch, tmp_path, capsys):
    """One line each, without a request: no licence is accepted here."""
    monkeypatch.setenv("FOUNDAD_DATASETS", str(tmp_path))
    monkeypatch.setenv("FOUNDAD_DATA", str(tmp_path / "data"))
    assert main(["data", "get", name, "--config", str(ROOT / "config")]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    kinds = ("--accept-licence", "--archive", "there is nothing to get")
    assert any(kind in lines[0] for kind in kinds)
    if CONFIGS[name].download is not None:
        assert CONFIGS[name].root.startswith("$FOUNDAD_DATASETS/")
