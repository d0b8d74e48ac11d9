"""Sources that a key covers: what a job imports, except modules that cannot change its result."""

import ast
import types
from pathlib import Path

import pytest
from conftest import ROOT

from foundad import config, provenance
from foundad.detection import registry
from foundad.plan import keys
from foundad.plan.selection import Plan

SOURCES = [*(ROOT / "foundad").rglob("*.py"), *(ROOT / "baselines").rglob("*.py")]
# What a fit leaves out for most methods -> who asks for it, and only where the method needs it.
ASKED_BY = {
    keys.PAIRS: {"foundad.detection.fitting"},
    keys.TRUTH: {"foundad.detection.fitting"},
    keys.MAPS: {"foundad.detection.model"},
    keys.BANK: {"foundad.config.method"},  # the type of a key, of which a fit reads plain values
    "foundad.encoders": set(),
}


def imported(path: Path, text: str) -> tuple[str, ...]:
    """Our modules that a file of ``text`` imports."""
    (path / "source.py").write_text(text)
    return provenance._imports(path / "source.py")[0]


def test_a_package_counts_where_a_name_is_none_of_its_modules(tmp_path):
    assert imported(tmp_path, "from foundad import discovery, config") == (
        "foundad.discovery",
        "foundad.config",
    )
    provenance._imports.cache_clear()
    assert imported(tmp_path, "from foundad.encoders import build_encoder, base") == (
        "foundad.encoders",
        "foundad.encoders.base",
    )
    provenance._imports.cache_clear()
    assert imported(tmp_path, "from foundad.config.bank import Bank") == ("foundad.config.bank",)


def test_the_room_of_the_config_imports_none_of_its_files():
    assert [name for name, value in vars(config).items() if isinstance(value, type | types.FunctionType)] == []
    assert provenance._imports(Path(config.__file__)) == ((), frozenset())


@pytest.mark.parametrize("module", sorted(provenance.APART))
def test_what_keys_leave_out_defines_all_that_is_imported_from_it(module):
    """Else a source could reach what changes results through it, and no key would hold that."""
    path = provenance._file(module)
    assert path is not None
    defined = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            defined |= {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == module:
                assert {alias.name for alias in node.names} <= defined, source


def test_a_fit_leaves_out_what_its_method_does_not_use():
    plan = Plan({"experiments": ["demo"]}, ROOT / "config")
    detectors = set()
    for name, method in plan.catalogue.methods.items():
        sources = plan.keys.with_detector("foundad.stages.fit", method, "efficientnet-lite0")
        assert (keys.TRUTH in sources.without) == ("truth" not in method.needs), name
        assert (keys.MAPS in sources.without) == (method.score_size is None), name
        assert (keys.PAIRS in sources.without) == ("images" not in method.needs), name
        for module, path in provenance._reachable(*sources).items():
            for left_out in sources.without.intersection(provenance._imports(path)[0]):
                assert module in ASKED_BY[left_out], f"{name}: {module} imports {left_out}"
        detectors.add(method.detector)
    assert detectors == set(registry.detectors())
