"""Unpacks untrusted archives, file by file: tar (plain, gz, bz2, xz) and zip.

Used by ``foundad data get`` alone. Only plain files and folders below the target are made, after their names are
checked. Links, devices, absolute names and ``..`` are refused, and so is an archive that grows beyond :class:`Limits`.
Owners, permissions and times are not restored. It neither downloads nor knows what a dataset is; the caller unpacks
into a temporary folder and renames that.
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

try:  # the reader that lzma uses; lzma.open() has no memory limit
    from compression._common import _streams
except ImportError:
    import _compression as _streams

CHUNK = 1 << 20
BLOCK = tarfile.BLOCKSIZE
XZ_MEMORY = 1 << 28  # bytes; the strongest setting of xz needs 65 MiB to unpack
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
    ratio: float = 100.0  # unpacked bytes per packed byte; about 1 for photographs, a thousand for zip bombs


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
        progress: called with the number of bytes of each written part.

    Raises:
        UserError: it is not an archive, is damaged or truncated, or breaks a rule or a limit; names archive and member.
        OSError: a file cannot be written, for example because the disk is full.
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
            raise  # a disk error; damage is an OSError without a number in gzip and bz2, and EINVAL in zip
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
    """The files of an archive in order; its first bytes say which kind of archive it is."""
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
        raise UserError(f"{archive}: is a web page, not an archive; get the archive in a browser")
    raise UserError(f"{archive}: is not a tar or zip archive; unpack it by hand")


def _zip_members(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as found:
        for info in found.infolist():
            name = checked_name(archive, info.orig_filename)
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _refused(archive, f"{shown(str(name))} is {_kind(stat.S_ISLNK(kind))}")
            if info.flag_bits & 1:
                raise UserError(f"{archive}: {shown(str(name))} is encrypted; unpack it by hand")
            if info.compress_type == zipfile.ZIP_LZMA:  # its reader has no memory limit
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
        # A tar cut between two files looks complete: only the empty block after the last file shows that it is.
        bounded.seek(end)
        if bounded.read(BLOCK) != bytes(BLOCK):
            raise UserError(f"{archive}: is truncated or damaged (its end is missing); get it again")
        while bounded.read(CHUNK):  # read on to the checksum of the compressed data
            pass


class _Xz(io.BufferedReader):
    """A decompressed xz file; its reader raises LZMAError if it needs more memory than :data:`XZ_MEMORY`."""

    def __init__(self, archive: Path) -> None:
        raw = _streams.DecompressReader(
            archive.open("rb"), lzma.LZMADecompressor, trailing_error=lzma.LZMAError, memlimit=XZ_MEMORY
        )
        super().__init__(raw)


class _Bounded(io.RawIOBase):
    """A decompressed tar that refuses to give more bytes than an archive may unpack to, plus a margin for headers."""

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
    """``name`` of a member as a relative path without ``..``; UserError for any other name."""
    path = PurePosixPath(name)
    drive = len(name) > 1 and name[1] == ":"
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or drive or not name:
        raise _refused(archive, f"the name {name!r} would lead out of the folder")
    if not _encodable(name):
        raise _refused(archive, f"the name {name!r} is not written in UTF-8")
    return path


def _encodable(name: str) -> bool:
    """Whether ``name`` can be written as UTF-8; names from broken headers hold lone surrogates."""
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
