"""Downloading one file over HTTP: resumed after broken connections, checked, whole or absent.

Used by ``foundad data get`` alone. pooch keeps the file and checks its SHA-256; the downloader that pooch is given here adds
what it lacks: what has arrived stays in ``<name>.part``, and the next attempt, or the next call, asks for the rest alone. A
server that has another version by then, or none of this, sends it all again.
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
LARGEST = 1 << 40  # bytes of a file whose length the server does not say
TIMEOUT = (10, 60)  # seconds to connect, and without a byte
WAIT = 0.25  # seconds before the next attempt, doubled with every one that brings nothing


def download(url: str, path: Path, sha256: str | None, advice: str) -> Path:
    """The file at ``url`` as ``path``; one that an earlier call left there whole is taken, if its hash is right.

    Args:
        sha256: of the whole; None checks its length alone.
        advice: what to do instead, the end of every error's line.

    Raises:
        UserError: the server does not have it, the connection breaks again and again, or the hash is another one.
        OSError: the disk is full, or the like.
    """
    import pooch

    pooch.get_logger().setLevel("CRITICAL")  # errors are ours to tell
    path.parent.mkdir(parents=True, exist_ok=True)

    def fetch(url: str, output: str, _: object) -> None:
        _fetch(url, path.with_name(f"{path.name}.part"), advice)
        path.with_name(f"{path.name}.part").replace(output)

    try:
        return Path(pooch.retrieve(url, sha256 and f"sha256:{sha256}", path.name, path.parent, downloader=fetch))
    except ValueError:
        raise UserError(f"{url}: the file there has not the SHA-256 {sha256}; it was not kept; {advice}") from None
    finally:
        if not path.with_name(f"{path.name}.part").exists():
            path.with_name(f"{path.name}.part.version").unlink(missing_ok=True)


def _fetch(url: str, part: Path, advice: str) -> None:
    """All of ``url`` into ``part``, in as many requests as it takes; gives up after six that bring nothing new."""
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
                    raise UserError(f"{url}: is no address of a file; {advice}") from None
                answer = error.response
                reason = type(error).__name__ if answer is None else f"{answer.status_code} {answer.reason}"
            now = part.stat().st_size if part.exists() else 0
            failures = 0 if now > arrived else failures + 1
            arrived = max(now, arrived)
            if failures == ATTEMPTS:
                kept = f"; {now / 2**20:.1f} MiB are kept, the same call goes on from there" if now else ""
                raise UserError(f"{url}: cannot be read ({reason}){kept}; try again, or: {advice}")
            time.sleep(min(8.0, WAIT * 2**failures))


def _request(session: "Session", url: str, part: Path, advice: str) -> bool:
    """One request for what is missing of ``part``; true if that is all of it now."""
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
        if status == 416:  # nothing lies behind what has arrived: it is all, or of another version
            if response.headers.get("Content-Range", "").endswith(f"/{start}"):
                return True
            part.unlink()
            return False
        if status >= 500 or status == 429:
            response.raise_for_status()  # the server may be better in a moment
        if status >= 400:
            raise UserError(f"{url}: {status} {response.reason}; {advice}")
        resumed = status == 206
        if resumed and "Range" not in headers:
            # It sends a part that nobody asked for: no whole file can be made of it.
            raise requests.exceptions.InvalidHeader("206 without a request for a part", response=response)
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            part.unlink()  # not the rest that was asked for: all over again
            return False
        if not resumed:
            start = 0
            tag = response.headers.get("ETag", "")
            # A weak tag says nothing about bytes.
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
                    raise UserError(f"{url}: more than {LARGEST >> 40} TiB came and no end; {advice}")
    return total is None or part.stat().st_size == total
