"""The rows of the GPU acceptance: printed as they come, kept as a Markdown table and as JSON.

A row that fails is a row like others, with its reason; the rest goes on.
"""

import contextlib
import json
import platform
import subprocess
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("torchvision", "triton", "timm", "transformers", "open-clip-torch", "numpy", "scipy", "pydantic")
EQUAL, FAILED, REPORTED, LEFT_OUT = "equal", "FAILED", "reported", "not run"


class Absent(Exception):
    """Something that a row needs is not on this machine; the message says what."""


@dataclass(frozen=True)
class Found:
    """What a row shows.

    Attributes:
        text: the value as people read it.
        difference, bar: what must be at most what; None: the row has no bar.
        why: the reason of the bar.
        numbers: for the JSON.
    """

    text: str
    difference: float | None = None
    bar: float | None = None
    why: str = ""
    numbers: dict[str, float] = field(default_factory=dict)


def within(difference: float, bar: float, why: str, text: str = "") -> Found:
    """A difference with its bar."""
    return Found(text or f"{difference:.2g}", difference, bar, why, {"difference": difference})


class Report:
    """All rows of one call.

    Args:
        out: folder of report.md and report.json.
        facts: of the machine.
        seconds: after which rows that may be left out are.
    """

    def __init__(self, out: Path, facts: dict[str, Any], seconds: float) -> None:
        self.out, self.facts, self.seconds = out, facts, seconds
        self.started = time.perf_counter()
        self.rows: list[dict[str, Any]] = []
        self.section = ""
        out.mkdir(parents=True, exist_ok=True)

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.started

    def run(self, what: str, work: Callable[[], Found], may_wait: bool = False) -> bool:
        """Add the row of ``work``; whether it is well. ``may_wait``: left out where the time is up."""
        before = self.elapsed
        found, reason = Found(""), ""
        if may_wait and before > self.seconds:
            verdict, reason = LEFT_OUT, f"{self.seconds:.0f} s are over"
        else:
            try:
                found = work()
                verdict = _verdict(found)
            except Absent as error:
                verdict, reason = LEFT_OUT, str(error)
            except (Exception, SystemExit) as error:
                traceback.print_exc()
                verdict, reason = FAILED, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        row = {"section": self.section, "what": what, "verdict": verdict, "reason": reason, **asdict(found)}
        self._add(row | {"seconds": round(self.elapsed - before, 2)})
        return verdict != FAILED

    @property
    def failures(self) -> list[dict[str, Any]]:
        """Rows that are not well."""
        return [row for row in self.rows if row["verdict"] == FAILED]

    def _add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        print(f"[{self.elapsed:6.1f} s] {row['section']}: {' | '.join(_cells(row)[1:])}", flush=True)
        facts = self.facts | {"seconds": round(self.elapsed, 1), "rows": self.rows}
        (self.out / "report.json").write_text(json.dumps(facts, indent=1) + "\n")
        lines = ["# GPU acceptance", "", ", ".join(f"{name} {value}" for name, value in self.facts.items()), ""]
        lines += ["| section | what | found | bar | verdict | seconds |", "|---|---|---|---|---|---:|"]
        lines += [f"| {' | '.join(cell.replace('|', '/') for cell in _cells(row))} |" for row in self.rows]
        (self.out / "report.md").write_text("\n".join(lines) + "\n")


def _verdict(found: Found) -> str:
    if found.bar is None or found.difference is None:
        return REPORTED
    return EQUAL if found.difference <= found.bar else FAILED  # what is no number fails


def _cells(row: dict[str, Any]) -> list[str]:
    bar = "" if row["bar"] is None else f"<= {row['bar']:.2g}" + (f" ({row['why']})" if row["why"] else "")
    verdict = f"{row['verdict']}: {row['reason']}" if row["reason"] else row["verdict"]
    return [row["section"], row["what"], row["text"], bar, verdict, f"{row['seconds']:.1f}"]


def facts_of(device: str) -> dict[str, Any]:
    """GPU, driver and versions; imports torch."""
    import torch

    found: dict[str, Any] = {"device": device, "python": platform.python_version(), "torch": torch.__version__}
    if device.startswith("cuda"):
        properties = torch.cuda.get_device_properties(device)
        found |= {"GPU": properties.name, "memory": f"{properties.total_memory / 2**30:.0f} GiB"}
        found |= {"CUDA": torch.version.cuda, "cuDNN": torch.backends.cudnn.version(), "driver": _driver()}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _driver() -> str:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return "unknown"
