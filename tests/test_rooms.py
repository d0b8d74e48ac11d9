"""Dependencies point inward: which rooms a room may import, also inside functions, and no two files import each other."""

from pathlib import Path

from conftest import ROOT

from foundad import provenance

# Room -> those it may import beside the config and the ground, which are the files of foundad/ itself. The ground imports no
# room, and the config none but the ground.
MAY = {
    "config": set(),
    "data": set(),
    "encoders": {"data"},
    "pairs": {"data", "encoders"},
    "metrics": {"data"},
    "detection": {"baselines", "data", "encoders", "method", "metrics", "pairs"},  # the registry names methods
    "method": {"data", "detection", "encoders", "pairs"},
    "baselines": {"detection"},
    "report": {"data", "metrics"},
    "folders": {"data", "metrics", "report"},
    "stages": {"data", "detection", "encoders", "method", "metrics", "pairs", "report"},
    "rehearsal": {"data", "plan", "report"},
    "plan": {"data", "detection", "encoders", "method", "metrics", "report", "stages"},
}
# Of the ground these stand above all rooms: what people call.
ABOVE = {"api", "cli", "arguments", "exporting", "own", "predict", "warm", "__main__"}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def room_of(module: str) -> str:
    """Its folder; a file of foundad/ itself is ground; some stand above all rooms."""
    package, _, rest = module.partition(".")
    first = rest.partition(".")[0]
    if package == "baselines":
        return package
    if first in ABOVE:
        return "above"
    return first if first and (ROOT / package / first).is_dir() else "ground"


def imports() -> dict[str, set[str]]:
    """Module -> our modules that it imports anywhere but for type checkers."""
    files = [*(ROOT / "foundad").rglob("*.py"), *(ROOT / "baselines").rglob("*.py")]
    return {
        name_of(path): {name for name in provenance._imports(path)[0] if provenance._file(name) is not None}
        for path in files
    }


def test_every_room_imports_what_lies_further_in():
    wrong = []
    for module, names in imports().items():
        room = room_of(module)
        allowed = {"ground", room} | MAY.get(room, set()) | ({"config"} if room in MAY else set())
        wrong += [f"{module} imports {name}" for name in names if room != "above" and room_of(name) not in allowed]
    assert wrong == []


def test_no_files_import_each_other_in_a_circle():
    graph = {module: names - {module} for module, names in imports().items()}
    # A package's own files may ask the package; files that only list others are asked by name.
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " -> ".join((*above[above.index(module) :], module))
        if module in done:
            return
        for name in sorted(graph.get(module, ())):
            visit(name, (*above, module))
        done.add(module)

    for module in sorted(graph):
        visit(module, ())
