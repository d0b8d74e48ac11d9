"""Downloads one file over HTTP: resumes after broken connections, checks the hash, leaves the file whole or absent.

Used by ``foundad data get`` alone. pooch keeps the file and checks its SHA-256. The downloader that is passed to it
here adds resuming: what has arrived stays in ``<name>.part``, and the next attempt or call asks only for the rest. A
server that has another version by then, or cannot resume, sends everything again.
"""

import errno
import re
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from foundad.errors import UserError
from foundad.files import write_text

if TYPE_CHECKING:
    from requests import Session

ATTEMPTS = 6
CHUNK = 1 << 16
LARGEST = 1 << 40  # bytes; the limit for a file whose length the server does not send
TIMEOUT = (10, 60)  # seconds to connect, and seconds without a byte
WAIT = 0.25  # seconds before the next attempt, doubled after each one that brings nothing


def download(url: str, path: Path, sha256: str | None, advice: str) -> Path:
    """Download ``url`` to ``path``; a whole file that an earlier call left there is used if its hash is right.

    Args:
        sha256: hash of the file; None: only its length is checked.
        advice: what to do instead; ends every error message.

    Raises:
        UserError: the server does not have it, the connection breaks again and again, or the hash differs.
        OSError: the file cannot be written, for example because the disk is full.
    """
    import pooch

    pooch.get_logger().setLevel("CRITICAL")  # its errors are raised as UserError below
    path.parent.mkdir(parents=True, exist_ok=True)

    def fetch(url: str, output: str, _: object) -> None:
        _fetch(url, path.with_name(f"{path.name}.part"), advice)
        path.with_name(f"{path.name}.part").replace(output)

    try:
        return Path(pooch.retrieve(url, sha256 and f"sha256:{sha256}", path.name, path.parent, downloader=fetch))
    except ValueError:
        raise UserError(f"{url}: the file does not have the SHA-256 {sha256} and was not kept; {advice}") from None
    finally:
        if not path.with_name(f"{path.name}.part").exists():
            path.with_name(f"{path.name}.part.version").unlink(missing_ok=True)


def _fetch(url: str, part: Path, advice: str) -> None:
    """Download all of ``url`` into ``part``; give up after ``ATTEMPTS`` requests in a row that bring nothing new."""
    import requests

    failures, arrived = 0, part.stat().st_size if part.exists() else 0
    with requests.Session() as session:
        while True:
            try:
                if _request(session, url, part, advice):
                    return
                reason = "the connection broke off"
            except requests.exceptions.RequestException as error:
                if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema):
                    raise UserError(f"{url}: is not the address of a file; {advice}") from None
                answer = error.response
                reason = type(error).__name__ if answer is None else f"{answer.status_code} {answer.reason}"
            now = part.stat().st_size if part.exists() else 0
            failures = 0 if now > arrived else failures + 1
            arrived = max(now, arrived)
            if failures == ATTEMPTS:
                kept = f"; {now / 2**20:.1f} MiB are kept, the same call resumes there" if now else ""
                raise UserError(f"{url}: cannot be read ({reason}){kept}; try again, or: {advice}")
            time.sleep(min(8.0, WAIT * 2**failures))


def _request(session: "Session", url: str, part: Path, advice: str) -> bool:
    """Request what is missing of ``part``; returns whether it is complete now."""
    import requests
    from tqdm import tqdm

    version = part.with_name(f"{part.name}.version")
    start = part.stat().st_size if part.exists() else 0
    known = version.read_text() if version.exists() else ""
    headers = {"Accept-Encoding": "identity"}
    if start and known:
        headers |= {"Range": f"bytes={start}-", "If-Range": known}
    with session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        status = response.status_code
        if status == 416:  # nothing follows what has arrived: it is complete, or of another version
            if response.headers.get("Content-Range", "").endswith(f"/{start}"):
                return True
            part.unlink()
            return False
        if status >= 500 or status == 429:
            response.raise_for_status()  # the server may recover
        if status >= 400:
            raise UserError(f"{url}: {status} {response.reason}; {advice}")
        resumed = status == 206
        if resumed and "Range" not in headers:
            # A part that was not requested cannot become a whole file.
            raise requests.exceptions.InvalidHeader("206 without a request for a part", response=response)
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            part.unlink()  # not the requested rest: start again
            return False
        if not resumed:
            start = 0
            tag = response.headers.get("ETag", "")
            # A weak tag does not identify bytes.
            write_text(version, tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", ""))
        length = response.headers.get("Content-Length")
        if length is not None and not re.fullmatch(r"[0-9]{1,18}", length):
            raise UserError(f"{url}: the server says its length is {length[:40]!r}; {advice}")
        total = start + int(length) if length is not None else None
        if total is not None and total - start > shutil.disk_usage(part.parent).free:
            missing = (total - start - shutil.disk_usage(part.parent).free) / 2**30
            raise OSError(errno.ENOSPC, f"{missing:.1f} GiB too little for {url}")
        bar = tqdm(desc=part.stem, total=total, initial=start, unit="B", unit_scale=True, file=sys.stderr, disable=None)
        with part.open("ab" if resumed else "wb") as file, bar as progress:
            for chunk in response.iter_content(CHUNK):
                file.write(chunk)
                progress.update(len(chunk))
                if total is None and file.tell() > LARGEST:
                    raise UserError(f"{url}: sends more than {LARGEST >> 40} TiB; {advice}")
    return total is None or part.stat().st_size == total
