"""Files that are either whole or absent: write beside, fsync, rename; and content hashes.

Every stage writes its outputs through :func:`write_beside`, so that a killed job never leaves half a file under its
final name.
"""

import csv
import hashlib
import io
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from foundad.errors import BrokenFile, UserError

if TYPE_CHECKING:
    import pyarrow as pa


@contextmanager
def write_beside(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path``; on success fsync it and rename it to ``path``.

    The folder is made if it is missing. If the body raises, the temporary file is removed and ``path`` stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all."""
    with write_beside(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_csv(path: str | Path, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table with a head, whole or not at all; None is an empty field."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    write_text(path, out.getvalue())


def write_parquet(table: "pa.Table", path: str | Path) -> None:
    """Write a pyarrow table in one row group, so that the same rows give the same bytes."""
    import pyarrow.parquet as pq

    with write_beside(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", row_group_size=max(1, table.num_rows))


def read_table(path: Path, columns: Sequence[str]) -> "pa.Table":
    """The ``columns`` of a table of a whole run, such as metrics.parquet.

    Raises:
        UserError: there is none yet, or it cannot be read; says how to make it.
        BrokenFile: it is no such table, or is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with path.open("rb") as file:
            return pq.read_table(file, columns=list(columns)).select(list(columns))
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; make it with: snakemake --cores all") from None
    except (pa.ArrowException, KeyError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:120]
        if isinstance(error, OSError) and error.errno is not None:  # Arrow's own, of damaged bytes, have no number
            raise UserError(f"{path}: cannot be read: {error.strerror}; mend its permissions") from None
        cure = "delete it, then: snakemake --cores all"
        raise BrokenFile(f"{path}: is damaged or no such table ({reason}); {cure}") from None


def sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of the bytes of ``path``."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
