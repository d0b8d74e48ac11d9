"""Unpacking archives of strangers: tar (plain, gz, bz2, xz) and zip, file by file, by rules that no archive can talk out of.

Used by ``foundad data get`` alone. Only plain files and folders below the target are ever made, with names taken apart and
checked; links, devices, absolute names and ``..`` are refused, and so is an archive that grows beyond :class:`Limits`.
Owners, permissions and times are not restored. It neither downloads nor knows what a dataset is; the caller unpacks into a
folder beside and renames that.
"""

import bz2
import errno
import gzip
import io
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, cast

from foundad.errors import UserError
from foundad.yamlfile import shown

try:  # as lzma itself reads; its own open() takes no limit of memory
    from compression._common import _streams
except ImportError:
    import _compression as _streams

CHUNK = 1 << 20
BLOCK = tarfile.BLOCKSIZE
XZ_MEMORY = 1 << 28  # bytes; the strongest setting of xz asks for 65 MiB to unpack
LARGEST_HEADER = 1 << 24  # bytes that the reader of tar files may ask for at once
DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    ValueError,
    OverflowError,
    NotImplementedError,
)


@dataclass(frozen=True)
class Limits:
    """What an archive may unpack to; the largest set of the field has 0.3 million files and 0.7 TB."""

    files: int = 1_000_000
    bytes: int = 1 << 40
    ratio: float = 100.0  # bytes unpacked to bytes packed; photographs do not compress, zip bombs do a thousandfold


@dataclass(frozen=True)
class Member:
    """One file of an archive: checked name, size in bytes, and how to read it."""

    name: PurePosixPath
    size: int
    open: Callable[[], IO[bytes]]


def unpack(
    archive: Path, target: Path, limits: Limits | None = None, progress: Callable[[int], object] | None = None
) -> int:
    """Write the files of ``archive`` below the existing empty folder ``target``; returns how many.

    Args:
        progress: is told the number of bytes after each part.

    Raises:
        UserError: it is no archive, is damaged or truncated, breaks a rule or a limit; names the archive and the member.
        OSError: the disk is full, or the like.
    """
    limits = limits or Limits()
    allowed = min(limits.bytes, int(limits.ratio * archive.stat().st_size))
    files = total = 0
    try:
        for member in _members(archive, allowed):
            files += 1
            total += member.size
            if files > limits.files:
                raise _refused(archive, f"holds more than {limits.files} files")
            if total > allowed:
                raise _too_large(archive, allowed)
            _write(archive, member, target / member.name, progress)
    except (*DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # of the disk; damage is an OSError without a number in gzip and bz2, an impossible place in zip
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{archive}: is truncated or damaged ({reason}); get it again") from None
    if not files:
        raise UserError(f"{archive}: holds no files; get it again")
    return files


def _write(archive: Path, member: Member, path: Path, progress: Callable[[int], object] | None) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("xb")
    except (FileExistsError, NotADirectoryError):
        raise _refused(archive, f"holds {shown(str(member.name))} twice") from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise _refused(archive, f"the name '{str(member.name)[:40]}…' is too long") from None
        raise
    written = 0
    with file, member.open() as source:
        while part := source.read(min(CHUNK, member.size - written + 1)):
            written += len(part)
            if written > member.size:
                raise _refused(archive, f"{shown(str(member.name))} is larger than its header says")
            file.write(part)
            if progress:
                progress(len(part))
    if written != member.size:
        raise UserError(f"{archive}: is truncated or damaged ({shown(str(member.name))} ends too early); get it again")


def _members(archive: Path, allowed: int) -> Iterator[Member]:
    """The files of an archive in their order; what kind it is, its first bytes say."""
    with archive.open("rb") as file:
        head = file.read(512)
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return _zip_members(archive)
    for magic, opened in ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\0", _Xz)):
        if head.startswith(magic):
            return _tar_members(archive, cast(IO[bytes], opened(archive)), allowed)
    if head[257:262] == b"ustar":
        return _tar_members(archive, archive.open("rb"), allowed)
    if head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise UserError(f"{archive}: is a web page, no archive; get the archive in a browser")
    raise UserError(f"{archive}: is no tar or zip archive; unpack it by hand")


def _zip_members(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as found:
        for info in found.infolist():
            name = checked_name(archive, info.orig_filename)
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _refused(archive, f"{shown(str(name))} is {_kind(stat.S_ISLNK(kind))}")
            if info.flag_bits & 1:
                raise UserError(f"{archive}: {shown(str(name))} is encrypted; unpack it by hand")
            if info.compress_type == zipfile.ZIP_LZMA:  # its reader has no limit of memory
                raise UserError(f"{archive}: {shown(str(name))} is packed with LZMA; unpack it by hand")
            if not info.is_dir():
                yield Member(name, info.file_size, lambda info=info: found.open(info))  # type: ignore[misc]


def _tar_members(archive: Path, stream: IO[bytes], allowed: int) -> Iterator[Member]:
    end = 0
    bounded = _Bounded(archive, stream, allowed)
    with stream, tarfile.open(fileobj=cast(IO[bytes], bounded), mode="r:") as found:
        while (info := found.next()) is not None:
            found.members = []  # type: ignore[attr-defined]  # tarfile would remember every header
            name = checked_name(archive, info.name)
            if not (info.isreg() or info.isdir()) or info.issparse():
                raise _refused(archive, f"{shown(str(name))} is {_kind(info.issym() or info.islnk())}")
            end = info.offset_data + (-(-info.size // BLOCK) * BLOCK if info.isreg() else 0)
            if info.isreg():
                yield Member(name, info.size, lambda info=info: cast(IO[bytes], found.extractfile(info)))  # type: ignore[misc]
        # Cut between two files, a tar looks complete: only the empty block behind the last one says that it is.
        bounded.seek(end)
        if bounded.read(BLOCK) != bytes(BLOCK):
            raise UserError(f"{archive}: is truncated or damaged (its end is missing); get it again")
        while bounded.read(CHUNK):  # to the checksum of what was compressed
            pass


class _Xz(io.BufferedReader):
    """A decompressed xz file whose reader takes no more than :data:`XZ_MEMORY`; more is an LZMAError."""

    def __init__(self, archive: Path) -> None:
        raw = _streams.DecompressReader(
            archive.open("rb"), lzma.LZMADecompressor, trailing_error=lzma.LZMAError, memlimit=XZ_MEMORY
        )
        super().__init__(raw)


class _Bounded(io.RawIOBase):
    """A decompressed tar that refuses to give more than an archive may unpack to, and a little for its headers."""

    def __init__(self, archive: Path, stream: IO[bytes], allowed: int) -> None:
        self.archive, self.stream, self.allowed = archive, stream, allowed + (1 << 20) + allowed // 2

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > max(CHUNK, LARGEST_HEADER):
            raise _refused(self.archive, "has a header of more than 16 MiB")
        part = self.stream.read(size)
        self._check()
        return part

    def seek(self, position: int, whence: int = 0) -> int:
        if whence == 0 and position > self.allowed:
            raise _too_large(self.archive, self.allowed)
        return self.stream.seek(position, whence)

    def tell(self) -> int:
        return self.stream.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def _check(self) -> None:
        if self.stream.tell() > self.allowed:
            raise _too_large(self.archive, self.allowed)


def checked_name(archive: Path, name: str) -> PurePosixPath:
    """``name`` of a member as a relative path without ``..``; UserError for any other."""
    path = PurePosixPath(name)
    drive = len(name) > 1 and name[1] == ":"
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or drive or not name:
        raise _refused(archive, f"the name {name!r} would lead out of the folder")
    if not _encodable(name):
        raise _refused(archive, f"the name {name!r} is not written in UTF-8")
    return path


def _encodable(name: str) -> bool:
    """Whether a file can be called ``name``: no half characters, which broken headers are read as."""
    try:
        return bool(name.encode("utf-8"))
    except UnicodeEncodeError:
        return False


def _kind(link: bool) -> str:
    return "a link" if link else "a device or another special file"


def _too_large(archive: Path, allowed: int) -> UserError:
    return _refused(archive, f"unpacks to more than {allowed / 2**20:.0f} MiB, which no archive of its size should")


def _refused(archive: Path, reason: str) -> UserError:
    return UserError(f"{archive}: {reason}; refused, nothing was kept: get it from its owner, or unpack it by hand")
