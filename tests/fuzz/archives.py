"""Archives: unpacked into a folder beside nothing but the bait, as `foundad data get` does."""

import bz2
import gzip
import io
import lzma
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from functools import partial

from mutators import either, of_bytes, of_tar, of_zip, packed
from target import Target, new_folder

from foundad.data.archive import Limits, unpack

FILES = {"a/one.txt": b"one" * 99, "a/b/two.bin": bytes(range(256)) * 2, "three": b""}


def zipped(method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """The files as a zip."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as target:
        for name, data in FILES.items():
            target.writestr(name, data)
    return out.getvalue()


def tarred(form: int = tarfile.PAX_FORMAT) -> bytes:
    """The files as a tar, with a folder, a name of two hundred letters and one that is no ASCII."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as target:
        folder = tarfile.TarInfo("a")
        folder.type = tarfile.DIRTYPE
        target.addfile(folder)
        for name, data in FILES.items() | {("é/" + "x" * 200, b"long")}:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            target.addfile(info, io.BytesIO(data))
    return out.getvalue()


def target(name: str, seeds: list[bytes], mutate: Callable[..., bytes]) -> Target:
    """Unpacked into an empty folder, which is emptied again; a refused archive leaves nothing beside it."""
    folder = new_folder("archive")
    path, out = folder / "packed", folder / "out"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        out.mkdir(exist_ok=True)
        unpack(path, out, Limits(files=100, bytes=1 << 22))

    def after() -> str | None:
        shutil.rmtree(out, ignore_errors=True)
        left = sorted(found.name for found in folder.iterdir() if found != path)
        above = sorted(found.name for found in folder.parent.iterdir() if found.name not in ("own", "bait.png"))
        return f"{left} {above}" if left or above else None

    return Target(name, seeds, read, mutate, (str(path),), folder, after)


TARS = [tarred(), tarred(tarfile.GNU_FORMAT)]
TARGETS: dict[str, Callable[[], Target]] = {
    "archives-zip": partial(
        target,
        "archives-zip",
        [zipped(), zipped(zipfile.ZIP_STORED), zipped(zipfile.ZIP_LZMA)],
        either(of_zip, of_bytes),
    ),
    "archives-tar": partial(target, "archives-tar", TARS, either(of_tar, of_tar, of_bytes)),
    "archives-gz": partial(
        target,
        "archives-gz",
        [gzip.compress(data) for data in TARS],
        either(packed(gzip.compress, gzip.decompress, of_tar), of_bytes),
    ),
    "archives-bz2": partial(
        target,
        "archives-bz2",
        [bz2.compress(data) for data in TARS],
        either(packed(bz2.compress, bz2.decompress, of_tar), of_bytes),
    ),
    "archives-xz": partial(
        target,
        "archives-xz",
        [lzma.compress(data, preset=0) for data in TARS],
        either(packed(partial(lzma.compress, preset=0), lzma.decompress, of_tar), of_bytes),
    ),
}
