"""Files between stages that say what they are: kind, key and a checksum, checked by every reader.

Every stage writes and reads through here. A file that is damaged, of another kind, or made under another key
(:mod:`foundad.plan.keys`) is one line that names it, never a number. Three formats: Parquet, safetensors and JSON; the array
of features has a twin in JSON (:mod:`foundad.tokens`).
"""

import hashlib
import json
import re
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundad.errors import BrokenFile, UserError
from foundad.files import write_beside, write_text

if TYPE_CHECKING:  # imported where a file is read or written: most jobs need one of them alone
    import numpy as np
    import pyarrow as pa

NAME = "foundad"  # of our entry in a file's metadata


@dataclass(frozen=True)
class Seal:
    """What a file says of itself.

    kind: manifest, draw, features, bank, model, scores, record, metrics and so on. key: of the job that made it; empty where
    it was made without one. facts: whatever else its readers need, as JSON types. checksum: of contents and facts.
    """

    kind: str
    key: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    checksum: int = 0

    def __getitem__(self, name: str) -> Any:
        return self.facts[name]


def ids_digest(ids: Iterable[str]) -> str:
    """Sixteen hexadecimal digits over image ids in their order: arrays carry the digest of the ids of their rows."""
    return hashlib.sha256("\n".join(ids).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def row_checksum(row: "np.ndarray") -> int:
    """CRC-32 of one row of an array; features carry one for each of their rows."""
    import numpy as np

    return zlib.crc32(np.ascontiguousarray(row).data)


def broken(path: Path, reason: object) -> BrokenFile:
    """The line for a file below the results that cannot be used."""
    line = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in " ".join(str(reason).split())[:300])
    return BrokenFile(f"{path}: {line}; delete it, then: snakemake --cores all {path} (with the run's --configfile)")


# ---------------------------------------------------------------------------------------------------- tensors


def write_tensors(path: Path, seal: Seal, arrays: Mapping[str, "np.ndarray"]) -> int:
    """Write ``arrays`` as safetensors, whole or not at all; returns their checksum.

    Raises:
        OSError: the disk is full, or the like.
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
    """What :func:`write_tensors` wrote; ``key`` is the one it must have (None: any).

    Raises:
        BrokenFile: it is damaged, of another kind or of another key.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            seal = _parsed((file.metadata() or {}).get(NAME))
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - safetensors is no dict
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise broken(path, f"is damaged, or no file of this project ({error})") from None
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
    """What :func:`write_parquet` wrote; ``key`` is the one it must have (None: any).

    Raises:
        BrokenFile: it is damaged, of another kind or of another key.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Not memory-mapped and not as a dataset: a file alone, whatever its folders are called.
        table = pq.ParquetFile(path).read(use_threads=False)
        seal = _parsed((table.schema.metadata or {}).get(NAME.encode()))
        return table, _checked(path, seal, kind, key, lambda: _of_table(table, seal))
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise broken(path, f"is damaged, or no file of this project ({error})") from None


def read_run_table(
    path: Path, columns: Sequence[str] | None = None, only: Mapping[str, Collection[str]] | None = None
) -> "pa.Table":
    """A table of a whole run, metrics.parquet or runs.parquet, of all ``columns`` or the named ones.

    ``only`` keeps the rows whose column of that name has one of the values. These tables are large and read often:
    pages are compared with their checksums, rows are not.

    Raises:
        UserError: there is none yet, or it cannot be read; says how to make it.
        BrokenFile: it is no such table, or is damaged.
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
        if isinstance(error, OSError) and error.errno is not None:  # Arrow's own, of damaged bytes, have no number
            raise UserError(f"{path}: cannot be read: {error.strerror}; mend its permissions") from None
        raise broken(path, f"is damaged or no such table ({error})") from None


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
    """What :func:`write_json` wrote; ``key`` is the one it must have (None: any).

    Raises:
        BrokenFile: it is damaged, of another kind or of another key.
    """
    try:
        seal = _parsed(path.read_text(encoding="utf-8"))
        return _checked(path, seal, kind, key, lambda: _of_facts(seal))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise broken(path, f"is damaged, or no file of this project ({error})") from None


# ---------------------------------------------------------------------------------------------------- seals


def _text(seal: Seal, checksum: int) -> str:
    """One JSON value, because the order of several entries of safetensors' metadata is not fixed."""
    return json.dumps({"kind": seal.kind, "key": seal.key, "checksum": checksum} | dict(seal.facts), sort_keys=True)


def _parsed(text: str | bytes | None) -> Seal:
    if text is None:
        raise ValueError("it does not say what it is")
    facts = dict(json.loads(text))
    kind, key, checksum = (facts.pop(name) for name in ("kind", "key", "checksum"))
    if type(checksum) is not int:
        raise ValueError("its checksum is no number")
    return Seal(str(kind), str(key), facts, checksum)


def _of_facts(seal: Seal) -> int:
    return zlib.crc32(json.dumps([seal.kind, seal.key, seal.facts], sort_keys=True).encode())


def _checked(path: Path, seal: Seal, kind: str, key: str | None, checksum: Callable[[], int]) -> Seal:
    if seal.kind != kind:
        raise broken(path, f"holds '{seal.kind}' where '{kind}' belongs")
    if key is not None and seal.key != key:
        raise broken(path, f"is of another config, other data or another version (key {seal.key or 'none'}, now {key})")
    if checksum() != seal.checksum:
        raise broken(path, "is damaged: its contents have not the checksum that it says")
    return seal
