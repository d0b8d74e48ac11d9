"""Reads and writes the files between stages; each carries its kind, key and checksum, and every reader checks them.

A file that is damaged, of another kind, or made under another key (:mod:`foundad.plan.keys`) raises one line that names
it and is never used. There are three formats: Parquet, safetensors and JSON. The array of features has a JSON file
beside it (:mod:`foundad.tokens`).
"""

import hashlib
import json
import os
import re
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundad.errors import BrokenFile, UserError
from foundad.files import write_beside, write_text

if TYPE_CHECKING:  # imported where a file is read or written: most jobs need only one of them
    import numpy as np
    import pyarrow as pa

NAME = "foundad"  # name of the entry in a file's metadata
LONGEST_HEADER = 2**26  # bytes of a safetensors file that say what it holds
_KEY_SAID = re.compile(rb'"key": "([0-9a-f]+)"')


@dataclass(frozen=True)
class Seal:
    """What a file says about itself.

    kind: manifest, draw, features, bank, model, scores, record, metrics and so on. key: key of the job that made it;
    empty if it was made without one. facts: what else its readers need, as JSON types. checksum: CRC-32 of contents and
    facts.
    """

    kind: str
    key: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    checksum: int = 0

    def __getitem__(self, name: str) -> Any:
        return self.facts[name]


def ids_digest(ids: Iterable[str]) -> str:
    """Sixteen hexadecimal digits over image ids in order: an array carries the digest of the ids of its rows."""
    return hashlib.sha256("\n".join(ids).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def row_checksum(row: "np.ndarray") -> int:
    """CRC-32 of one row of an array; features carry one for each of their rows."""
    import numpy as np

    return zlib.crc32(np.ascontiguousarray(row).data)


def broken(path: Path, reason: object) -> BrokenFile:
    """The error for a file below the results that cannot be used; it says how to make the file again."""
    line = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in " ".join(str(reason).split())[:300])
    return BrokenFile(f"{path}: {line}; delete it, then: snakemake --cores all {path} (with the run's --configfile)")


# ---------------------------------------------------------------------------------------------------- tensors


def write_tensors(path: Path, seal: Seal, arrays: Mapping[str, "np.ndarray"]) -> int:
    """Write ``arrays`` as safetensors, whole or not at all; returns their checksum.

    Raises:
        OSError: the file cannot be written, for example because the disk is full.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    checksum = _of_arrays(arrays, seal)
    with write_beside(path) as temporary:
        try:
            save_file(dict(arrays), temporary, metadata={NAME: _text(seal, checksum)})
        except SafetensorError as error:
            number = re.search(r"os error (\d+)", str(error))
            raise OSError(int(number[1]) if number else 5, f"{path}: {error}") from None
    return checksum


def read_tensors(path: Path, kind: str, key: str | None = None) -> tuple[dict[str, "np.ndarray"], Seal]:
    """Read what :func:`write_tensors` wrote; ``key`` is the key that it must have (None: any).

    Raises:
        BrokenFile: the file is damaged, of another kind or of another key.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            seal = _parsed((file.metadata() or {}).get(NAME))
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - safetensors is no dict
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise broken(path, f"is damaged, or not a file of this project ({error})") from None
    return arrays, _checked(path, seal, kind, key, lambda: _of_arrays(arrays, seal))


def _of_arrays(arrays: Mapping[str, "np.ndarray"], seal: Seal) -> int:
    import numpy as np

    total = _of_facts(seal)
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total = zlib.crc32(f"{name}\0{array.dtype.str}\0{array.shape}".encode(), total)
        total = zlib.crc32(array.data, total)
    return total


# ---------------------------------------------------------------------------------------------------- tables


def write_parquet(path: Path, seal: Seal, table: "pa.Table") -> int:
    """Write ``table`` in one row group, so that the same rows give the same bytes; returns its checksum."""
    import pyarrow.parquet as pq

    checksum = _of_table(table, seal)
    stamped = table.replace_schema_metadata({NAME: _text(seal, checksum)})
    with write_beside(path) as temporary:
        pq.write_table(
            stamped, temporary, compression="zstd", row_group_size=max(1, table.num_rows), write_page_checksum=True
        )
    return checksum


def read_parquet(path: Path, kind: str, key: str | None = None) -> tuple["pa.Table", Seal]:
    """Read what :func:`write_parquet` wrote; ``key`` is the key that it must have (None: any).

    Raises:
        BrokenFile: the file is damaged, of another kind or of another key.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Read as one file, not as a dataset: the names of its folders must not become columns. Not memory-mapped.
        table = pq.ParquetFile(path).read(use_threads=False)
        seal = _parsed((table.schema.metadata or {}).get(NAME.encode()))
        return table, _checked(path, seal, kind, key, lambda: _of_table(table, seal))
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise broken(path, f"is damaged, or not a file of this project ({error})") from None


def read_run_table(
    path: Path, columns: Sequence[str] | None = None, only: Mapping[str, Collection[str]] | None = None
) -> "pa.Table":
    """Read a table of a whole run, metrics.parquet or runs.parquet: all columns, or those in ``columns``.

    ``only`` maps columns to values: rows with other values are left out. These tables are large and read often, so only
    the checksums of Parquet's pages are verified, not the seal's.

    Raises:
        UserError: the file does not exist yet, or cannot be read; the message says how to make it.
        BrokenFile: the file is damaged, or not such a table.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    names = None if columns is None else list(dict.fromkeys([*columns, *(only or {})]))
    try:
        with path.open("rb") as file:
            # A thread of Arrow's that is still starting when the process ends aborts it (apache/arrow 34314).
            found = pq.ParquetFile(file, page_checksum_verification=True).read(names, use_threads=False)
        for name, values in (only or {}).items():
            found = found.filter(pc.is_in(found[name], pa.array(sorted(values), pa.string())))
        return found if columns is None else found.select(list(columns))
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; make it with: snakemake --cores all") from None
    except (pa.ArrowException, KeyError, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # Arrow's own, about damaged bytes, have no number
            raise UserError(f"{path}: cannot be read: {error.strerror}; fix its permissions") from None
        raise broken(path, f"is damaged, or not such a table ({error})") from None


def _of_table(table: "pa.Table", seal: Seal) -> int:
    total = _of_facts(seal)
    for name, values in table.to_pydict().items():
        total = zlib.crc32(f"{name}\0{values!r}".encode("utf-8", "surrogatepass"), total)
    return total


# ---------------------------------------------------------------------------------------------------- JSON


def write_json(path: Path, seal: Seal) -> None:
    """Write the facts of ``seal`` as JSON that people can read, whole or not at all."""
    stored = {"kind": seal.kind, "key": seal.key, "checksum": _of_facts(seal)} | dict(seal.facts)
    write_text(path, json.dumps(stored, indent=1, sort_keys=True) + "\n")


def read_json(path: Path, kind: str, key: str | None = None) -> Seal:
    """Read what :func:`write_json` wrote; ``key`` is the key that it must have (None: any).

    Raises:
        BrokenFile: the file is damaged, of another kind or of another key.
    """
    try:
        seal = _parsed(path.read_text(encoding="utf-8"))
        return _checked(path, seal, kind, key, lambda: _of_facts(seal))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise broken(path, f"is damaged, or not a file of this project ({error})") from None


# ---------------------------------------------------------------------------------------------------- seals


def key_of(path: Path) -> str | None:
    """The key that a file was made under, or the failure in its place; None where there is no such file, or it has none.

    Reads the few bytes that say so and compares no checksum: for who asks what is there, not for who uses it.
    """
    try:
        with path.open("rb") as file:
            if path.suffix == ".parquet" and file.read(4) == b"PAR1":
                file.seek(-8, os.SEEK_END)
                size = int.from_bytes(file.read(4), "little")
                file.seek(-8 - size, os.SEEK_END)
                said = file.read(size)
            elif path.suffix == ".safetensors" and (start := file.read(8)) and start[:1] != b"{":
                said = file.read(min(int.from_bytes(start, "little"), LONGEST_HEADER)).replace(b'\\"', b'"')
            else:
                file.seek(0)
                said = file.read()
    except OSError:
        return None
    found = _KEY_SAID.search(said)
    return None if found is None else found[1].decode()


def _text(seal: Seal, checksum: int) -> str:
    """One JSON value, because the order of several entries of safetensors' metadata is not fixed."""
    return json.dumps({"kind": seal.kind, "key": seal.key, "checksum": checksum} | dict(seal.facts), sort_keys=True)


def _parsed(text: str | bytes | None) -> Seal:
    if text is None:
        raise ValueError("it does not say what it is")
    facts = dict(json.loads(text))
    kind, key, checksum = (facts.pop(name) for name in ("kind", "key", "checksum"))
    if type(checksum) is not int:
        raise ValueError("its checksum is not a number")
    return Seal(str(kind), str(key), facts, checksum)


def _of_facts(seal: Seal) -> int:
    return zlib.crc32(json.dumps([seal.kind, seal.key, seal.facts], sort_keys=True).encode())


def _checked(path: Path, seal: Seal, kind: str, key: str | None, checksum: Callable[[], int]) -> Seal:
    if seal.kind != kind:
        raise broken(path, f"holds '{seal.kind}', expected '{kind}'")
    if key is not None and seal.key != key:
        raise broken(path, f"is of another config, other data or another version (key {seal.key or 'none'}, now {key})")
    if checksum() != seal.checksum:
        raise broken(path, "is damaged: its contents do not match its checksum")
    return seal
