"""Feeds mutated files to every reader of the project and counts what is read, refused, or neither: `make fuzz`.

Deterministic: input number n of a target depends on the target's name and n alone. Files in seeds/<target>/ are inputs that
broke something once; they come first, as they are, and serve as seeds. Each target runs in a process of its own, so that a
reader that dies takes nothing with it; what it died of is found again by its number. Findings are kept in findings/, the
smallest of each cause made smaller still.
"""

import argparse
import hashlib
import importlib
import json
import mmap
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random

FUZZ = Path(__file__).resolve().parent
sys.path[:0] = [str(FUZZ), str(FUZZ.parents[1])]

from target import Finding, Target, outcome  # noqa: E402

SEEDS, FINDINGS = FUZZ / "seeds", FUZZ / "findings"
# How the name of a target begins -> the file that makes it.
KINDS = {
    "yaml": "yaml_files",
    "pictures": "pictures",
    "lists": "lists",
    "archives": "archives",
    "weights": "weights",
    "checkpoints": "checkpoints",
    "models": "models",
    "files": "intermediates",
}
WANTED = 200_000  # inputs of a whole run
SHRINKING = 100  # inputs spent on making one finding smaller


@dataclass
class Tally:
    """What became of a target's inputs; of each cause the first words, the number of findings and the smallest input."""

    name: str
    inputs: int = 0
    read: int = 0
    refused: int = 0
    findings: dict[tuple[str, str], list[Finding]] = field(default_factory=dict)
    smallest: dict[tuple[str, str], bytes] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, data: bytes, result: Finding | bool) -> None:
        """Count one input."""
        self.inputs += 1
        if not isinstance(result, Finding):
            self.read += result
            self.refused += not result
            return
        self.findings.setdefault(result.group, []).append(result)
        if len(data) < len(self.smallest.get(result.group, data + b" ")):
            self.smallest[result.group] = data


def kept(name: str) -> list[bytes]:
    """The inputs of a target that broke something once."""
    return [path.read_bytes() for path in sorted((SEEDS / name).glob("*")) if path.is_file()]


def input_of(target: Target, seeds: list[bytes], number: int) -> bytes:
    """Input ``number`` of ``target``: the seeds as they are, then mutations."""
    if number < len(seeds):
        return seeds[number]
    random = Random(f"{target.name} {number}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zip files that hold a name twice are made on purpose
        return target.mutate(random.choice(seeds), random, seeds)


def fuzz(
    target: Target, inputs: int | None = None, seconds: float | None = None, progress: Callable[[int], object] = id
) -> Tally:
    """Feed ``target`` until so many ``inputs`` or ``seconds`` of processor time are spent, all seeds in any case."""
    tally = Tally(target.name)
    seeds = [*kept(target.name), *target.seeds]
    started = time.process_time()
    number = 0
    while number < len(seeds) or (
        (inputs is None or number < inputs) and (seconds is None or time.process_time() - started < seconds)
    ):
        progress(number)
        data = input_of(target, seeds, number)
        tally.add(data, outcome(target, data))
        number += 1
    tally.seconds = time.process_time() - started
    return tally


def smaller(target: Target, data: bytes, group: tuple[str, str]) -> bytes:
    """``data`` with parts left out as long as it does the same."""

    def same(shorter: bytes) -> bool:
        result = outcome(target, shorter)
        return isinstance(result, Finding) and result.group == group

    left, size = SHRINKING, len(data) // 2
    while size and left:
        start = 0
        while start < len(data) and left:
            left -= 1
            shorter = data[:start] + data[start + size :]
            if same(shorter):
                data = shorter
            else:
                start += size
        size //= 2
    return data


def makers(name: str = "") -> dict[str, Callable[[], Target]]:
    """Name -> how the target is made; of one name its own kind alone, because some kinds take seconds to import."""
    found: dict[str, Callable[[], Target]] = {}
    for kind, module in KINDS.items():
        if not name or name.partition("-")[0] == kind:
            found |= importlib.import_module(module).TARGETS
    return found


# ---------------------------------------------------------------------------------------------------- a run


def main() -> int:
    """Run the targets, print a row each; 1 if there are findings, or too few inputs in a whole run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="targets, or how their names begin (default: all)")
    parser.add_argument("--seconds", type=float, default=60, help="processor time a target (default: 60)")
    parser.add_argument("--alone", action="store_true", help="in this process, one target; prints JSON")
    arguments = parser.parse_args()
    if arguments.alone:
        return _alone(arguments.names[0], arguments.seconds)
    FINDINGS.mkdir(exist_ok=True)
    names = [name for name in makers() if not arguments.names or name.startswith(tuple(arguments.names))]
    rows = []
    print(f"{'kind':<24}{'inputs':>9}{'refused':>9}{'read':>9}{'findings':>9}{'causes':>7}{'seconds':>9}")
    for name in names:
        row = _apart(name, arguments.seconds)
        rows.append(row)
        print(
            "{name:<24}{inputs:>9}{refused:>9}{read:>9}{findings:>9}{causes:>7}{seconds:>9.0f}".format(**row),
            flush=True,
        )
    total, findings = sum(row["inputs"] for row in rows), sum(row["findings"] for row in rows)
    spent = sum(row["seconds"] for row in rows)
    print(f"{'all':<24}{total:>9}{'':>18}{findings:>9}{'':>7}{spent:>9.0f}")
    for row in rows:
        for group in row["groups"]:
            print(
                f"{row['name']}: {group['count']} x {group['kind']} at {group['place']}: {group['words']} ({group['file']})"
            )
    few = not arguments.names and total < WANTED
    if few:
        print(f"fewer than {WANTED} inputs; give more with --seconds")
    return 1 if findings or few else 0


def _apart(name: str, seconds: float) -> dict:
    """A target in a process of its own; its row, also where it died."""
    place = FINDINGS / f".{name}.number"
    place.write_bytes(bytes(8))
    command = [sys.executable, __file__, name, "--alone", "--seconds", str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    number = int.from_bytes(place.read_bytes(), "little")
    place.unlink()
    last = done.stdout.rpartition("\n{")[2]
    if done.returncode == 0:
        return json.loads("{" + last.removeprefix("{"))
    reason = done.stderr.strip().splitlines()[-1:] or [""]
    group = {
        "kind": f"died ({done.returncode})",
        "place": f"input {number}",
        "words": reason[0][:300],
        "count": 1,
        "file": "none",
    }
    return {
        "name": name,
        "inputs": number,
        "read": 0,
        "refused": 0,
        "findings": 1,
        "causes": 1,
        "seconds": 0.0,
        "groups": [group],
    }


def _alone(name: str, seconds: float) -> int:
    target = makers(name)[name]()
    place = FINDINGS / f".{name}.number"
    with place.open("r+b") as file, mmap.mmap(file.fileno(), 8) as shared:

        def remember(number: int) -> None:
            shared[:8] = number.to_bytes(8, "little")

        tally = fuzz(target, seconds=seconds, progress=remember)
    groups = []
    for group, found in tally.findings.items():
        data = smaller(target, tally.smallest[group], group)
        path = FINDINGS / f"{name}-{hashlib.sha256(repr(group).encode()).hexdigest()[:8]}"
        path.write_bytes(data)
        groups.append(asdict(found[0]) | {"count": len(found), "file": os.path.relpath(path)})
    counts = {"inputs": tally.inputs, "read": tally.read, "refused": tally.refused, "seconds": tally.seconds}
    findings = sum(map(len, tally.findings.values()))
    print("\n" + json.dumps({"name": name, **counts, "findings": findings, "causes": len(groups), "groups": groups}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
