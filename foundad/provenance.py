"""Hashes that decide whether a result is stale, and facts about the machine for the result's record.

Snakemake sees parameters, not imported modules, so every rule carries the hash of the sources its stage uses and of its
resolved config. Nothing here touches results; no time stamp, path or device enters a hash.
"""

import ast
import hashlib
import json
import platform
import resource
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from foundad import discovery

# Recorded in addition to what the encoder libraries import.
_RECORDED = ("numpy", "scipy", "scikit-image", "pillow", "torch", "torchvision", "pandas", "pyarrow", "foundad")
_ROOT = Path(__file__).resolve().parent.parent
_OURS = ("foundad", "baselines")
# Distributions whose name differs from their module's.
_DISTRIBUTIONS = {"PIL": "pillow", "skimage": "scikit-image", "sklearn": "scikit-learn", "open_clip": "open-clip-torch"}
# Packages that check, store, download or show progress; they cannot change a number.
_HARMLESS = {"huggingface_hub", "pooch", "pyarrow", "pydantic", "requests", "safetensors", "tqdm", "yaml"}

# Ours that no result depends on, with what they alone import. docs/staleness.md gives the reason for each.
APART = frozenset(
    {
        *("foundad.errors", "foundad.failures", "foundad.names"),  # what is said when something is wrong
        *("foundad.files", "foundad.paths"),  # where files lie, and that they are whole or absent
        *("foundad.key", "foundad.provenance", "foundad.stages.base"),  # keys, and how a job is handed its files
        # Which source or file a name stands for. Keys hold the source, or the contents of the file.
        *("foundad.discovery", "foundad.detection.registry", "foundad.metrics.registry"),
        *("foundad.encoders.identity", "foundad.encoders.weights", "foundad.yamlfile"),
    }
)


def config_hash(*values: Any) -> str:
    """Ten hexadecimal digits of the canonical JSON of ``values``."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


@cache
def source_hash(modules: tuple[str, ...], without: frozenset[str] = frozenset()) -> str:
    """Ten hexadecimal digits over the sources of ``modules`` and of all modules of this project that they import.

    Modules ``without``, and what only they import, are left out, because not every job uses all that its stage imports. So
    are those that no result depends on.
    """
    digest = hashlib.sha256()
    for path in sorted(_reachable(modules, without).values()):
        digest.update(path.relative_to(_ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:10]


@cache
def packages(modules: tuple[str, ...], without: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """The distributions that the files of :func:`source_hash` import and that can change a number, sorted."""
    names = {name for path in _reachable(modules, without).values() for name in _imports(path)[1]}
    return tuple(sorted({_distribution(name) for name in names - _HARMLESS}))


@cache
def _distribution(module: str) -> str:
    """The distribution that holds a top-level module; most have the same name."""
    name = _DISTRIBUTIONS.get(module, module)
    if version(name) != "absent":
        return name
    return min(metadata.packages_distributions().get(module, [name]))  # takes a third of a second


@cache
def version(distribution: str) -> str:
    """The installed version of ``distribution`` without its build (2.6.0 for 2.6.0+cu124), or ``absent``."""
    try:
        return metadata.version(distribution).partition("+")[0]
    except metadata.PackageNotFoundError:
        return "absent"


def _reachable(modules: tuple[str, ...], without: frozenset[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        path = _file(name)
        if path is None or name in found or name in without or name in APART:
            continue
        found[name] = path
        waiting += _imports(path)[0]
    return found


@cache
def _file(module: str) -> Path | None:
    base = _ROOT.joinpath(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


@cache
def _imports(path: Path) -> tuple[tuple[str, ...], frozenset[str]]:
    """Names of this project's modules and of other top-level packages that the file imports, also inside functions."""
    names: list[str] = []
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:  # statements only: no expression imports anything
        node = waiting.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            waiting += node.orelse  # what only type checkers import never runs
            continue
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += _named_by(node)
        for part in ("body", "orelse", "finalbody", "handlers", "cases"):
            waiting += getattr(node, part, ())
    tops = {name.partition(".")[0] for name in names}
    return (
        tuple(name for name in names if name.partition(".")[0] in _OURS),
        frozenset(tops - set(_OURS) - sys.stdlib_module_names),
    )


def _named_by(node: ast.ImportFrom) -> list[str]:
    """The modules that ``from package import …`` names. The package itself is used where a name is none of its modules."""
    if str(node.module).partition(".")[0] not in _OURS:
        return [str(node.module)]
    inside = [f"{node.module}.{alias.name}" for alias in node.names]
    modules = [name for name in inside if _file(name) is not None]
    return modules if len(modules) == len(inside) else [str(node.module), *modules]


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change a number, with builds, for records."""
    found = {"python": platform.python_version()}
    for name in dict.fromkeys((*_RECORDED, *packages(tuple(discovery.libraries().values())))):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def machine() -> dict[str, str]:
    """Name and kind of the machine."""
    return {"host": platform.node(), "system": platform.platform(), "processor": _processor()}


def peak_memory() -> int:
    """Largest resident memory of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
