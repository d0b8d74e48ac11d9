"""YAML that people write by mistake, or to do harm: one line and exit code 2, never a traceback."""

from pathlib import Path

import pytest
import yaml
from conftest import write_yaml

from foundad.cli import main
from foundad.config.base import expanded

TITLE = "encoders/tiny.yaml"
TEXTS = {
    "no date": (b"title: 2020-99-99\n", "is a date to YAML"),
    "a date": (b"title: 2020-01-01\n", "is a date to YAML"),
    "no int": (b"channels: !!int x\n", "'x' is not a valid int"),
    "empty int": (b"channels: !!int ''\n", "'' is not a valid int"),
    "no bool": (b"channels: !!bool x\n", "'x' is not a valid bool"),
    "no digits": (b"channels: 0b_\n", "'0b_' is not a valid int"),
    "circle": (b"title: &a [*a]\n", "holds itself"),
    "circle of mappings": (b"title: &a {b: *a}\n", "holds itself"),
    "circle of a merge": (b"title: &a {<<: *a}\n", "holds itself"),
    "deep": (b"title: " + b"[" * 100_000, "nested lists and mappings"),
    "deep blocks": (b"title:\n  " + b"- " * 50_000 + b"x\n", "nested lists and mappings"),
    "laughs": (
        b"a0: &a0 [x, x]\n" + b"".join(b"a%d: &a%d [*a%d, *a%d]\n" % (n, n, n - 1, n - 1) for n in range(1, 30)),
        "holds more than 50000 values",
    ),
    "number as key": (b"1: x\n", "the key '1' is not a text"),
    "null as key": (b"null: x\n", "the key 'null' is not a text"),
    "list as key": (b"[a]: x\n", "the key a list or mapping is not a text"),
    "twice": (b"title: x\ntitle: y\n", "line 2: the key 'title' appears twice"),
    "latin": (b"# one\ntitle: M\xfcller\n", "line 2: is not written in UTF-8"),
    "utf-16": ("title: x\n".encode("utf-16"), "is not written in UTF-8"),
    "tab": (b"features:\n\tkind: stages\n", "is not valid YAML"),
    "nul": (b"title: a\0b\n", "is not valid YAML"),
    "escaped nul": (b'title: "a\\0b"\n', "holds a control character"),
    "empty": (b"", "it is empty"),
    "list": (b"- a\n", "must hold 'key: value' lines"),
    "huge int": (b"channels: " + b"9" * 5000, "a number of 5000 characters"),
    "large int": (b"channels: 1" + b"0" * 30, "a number beyond 2147483647"),
    "python": (b"title: !!python/object/apply:os.system [ls]\n", "has no meaning here"),
    "bytes": (b"title: !!binary aGk=\n", "has no meaning here"),
    "two documents": (b"a: 1\n---\nb: 2\n", "is not valid YAML"),
    "parts": (b"library: concatenation\nparts: 3\n", "key 'parts'"),
    "base is a list": (b"base: [a]\n", "key 'base': there is no ['a']"),
    "base is a path": (b"base: ../methods/knn\n", "key 'base': there is no '../methods/knn'"),
}


def failed(project: Path, capsys) -> list[str]:
    assert main(["validate", "--config", str(project / "config")]) == 2
    return capsys.readouterr().err.splitlines()


@pytest.mark.parametrize("kind", TEXTS)
def test_a_broken_file_is_one_line(kind, project: Path, capsys):
    text, message = TEXTS[kind]
    path = project / "config" / TITLE
    path.write_bytes(text)
    lines = failed(project, capsys)
    assert all(line.startswith(f"{path}:") for line in lines), lines
    assert [line for line in lines if message in line], lines


VALUES = [
    ("experiments/small.yaml", "tables", {"x": 3.5}, "key 'tables.x'"),
    ("experiments/small.yaml", "tables", {"x": {"kind": ["a"]}}, "key 'tables.x'"),
    ("experiments/small.yaml", "tables", [1], "key 'tables'"),
    ("experiments/small.yaml", "figures", {"x": {"kind": {}}}, "key 'figures.x'"),
    ("datasets/tiny.yaml", "categories", [None], "key 'categories"),
    ("datasets/tiny.yaml", "id", "other", "the name of the file is the id"),
    ("encoders/tiny.yaml", "image_size", 2**30, "key 'image_size'"),
    ("encoders/tiny.yaml", "features", {"kind": "stages", "strides": [0], "grid": 8}, "key 'features"),
    ("encoders/tiny.yaml", "features", 3, "key 'features"),
    ("encoders/tiny.yaml", "mean", [float("nan")] * 3, "key 'mean.0'"),
    ("config.yaml", "results", "a{b}", "key 'results'"),
    ("config.yaml", "results", "a\nb", "key 'results'"),
    ("config.yaml", "results", "", "key 'results'"),
    ("config.yaml", "experiments", [], "key 'experiments'"),
]


@pytest.mark.parametrize(("file", "key", "value", "message"), VALUES)
def test_a_value_of_the_wrong_kind_is_a_line(file, key, value, message, project: Path, capsys):
    path = project / "config" / file
    write_yaml(path, yaml.safe_load(path.read_text()) | {key: value})
    lines = failed(project, capsys)
    assert all(line.startswith(f"{path}:") for line in lines), lines
    assert [line for line in lines if message in line], lines


def test_parts_that_name_each_other_and_a_name_nobody_reads(project: Path, capsys):
    folder = project / "config/encoders"
    for name, part in (("one", "two"), ("two", "one")):
        values = {"title": "x", "library": "concatenation", "parts": [part, "tiny"], "licence": "x", "source": "x"}
        write_yaml(folder / f"{name}.yaml", values)
    (folder / "mine.yml").write_text("title: x\n")
    (folder / "folder.yaml").mkdir()
    lines = failed(project, capsys)
    assert [line for line in lines if "goes in a circle" in line], lines
    assert f"{folder}/mine.yml: is ignored: name it mine.yaml" in lines
    assert f"{folder}/folder.yaml: is a folder, not a YAML file; rename or remove it" in lines


@pytest.mark.parametrize("call", [["ls"], ["validate"], ["plan"]])
def test_outside_of_a_project_it_says_where_to_call(call, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(call) != 0
    assert capsys.readouterr().err.startswith("there is no folder config here; call foundad in the project's folder")


def test_an_empty_variable_is_not_set(monkeypatch):
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.setenv("FULL", "/data")
    assert expanded("$EMPTY/mpdd") == Path("$EMPTY/mpdd")
    assert expanded("${EMPTY}/$FULL") == Path("${EMPTY}//data")


@pytest.mark.parametrize("content", [None, b"", b"PAR1 and nothing", b"text" * 99])
@pytest.mark.parametrize("call", [["status"], ["compare", "knn", "foundad"], ["rank", "a", "b", "c"]])
def test_tables_that_are_absent_or_damaged_are_a_line_with_the_cure(call, content, tmp_path: Path, capsys):
    for name in ("runs.parquet", "metrics.parquet"):
        if content is not None:
            (tmp_path / name).write_bytes(content)
    assert main([*call, "--results", str(tmp_path)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "snakemake --cores all" in lines[0]
