"""Variants of encoders and methods that an experiment names without a file of their own."""

from pathlib import Path

import pytest
import yaml
from conftest import write_yaml

from foundad.cli import main
from foundad.errors import UserError
from foundad.plan.catalogue import _changed, load_catalogue, load_one, variant
from foundad.plan.selection import Plan

STEPS = [f"foundad@projector.width=32,training.steps={steps}" for steps in (3, 5)]


@pytest.fixture
def varied(project: Path) -> Path:
    """The project, whose experiment runs foundad, two variants of it, and knn on a variant of the encoder as well."""
    path = project / "config/experiments/small.yaml"
    values = yaml.safe_load(path.read_text())
    vary = {"base": "foundad", "vary": {"training.steps": [3, 5], "projector.width": [32]}}
    values["cells"][0] |= {"methods": ["foundad", vary], "encoders": ["tiny"], "shots": [1], "seeds": [0]}
    values["cells"].append(values["cells"][0] | {"encoders": ["tiny@interpolation=bicubic"], "methods": ["knn"]})
    write_yaml(path, values | {"tables": {}, "figures": {}})
    return project


def test_every_combination_of_the_values_is_a_cell(varied):
    plan = Plan({"experiments": ["small"]}, varied / "config")
    assert [cell.method for cell in plan.cells] == ["foundad", *STEPS, "knn"]
    assert plan.cells[-1].encoder == "tiny@interpolation=bicubic"
    assert [plan.project.method(name).training.steps for name in STEPS] == [3, 5]
    assert plan.project.method(STEPS[0]).title == "FoundAD, width 32, steps 3"
    assert load_one(varied / "config", "methods", STEPS[0]) == plan.project.method(STEPS[0])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ("bank.augmentation.appearance_probability=0", "appearance probability 0"),
        ("projector.position_embedding=true", "position embedding"),
        ("bank.augmentation.horizontal_flip=false", "no horizontal flip"),
        ("search.dtype=bfloat16,training.dtype=float32", "search.dtype bfloat16, training.dtype float32"),
    ],
)
def test_titles_say_what_is_changed(changes, told):
    _, found = variant(f"foundad@{changes}")
    assert _changed({"title": "FoundAD"}, found)["title"] == f"FoundAD, {told}"


def test_variants_share_what_they_do_not_change(varied):
    plan = Plan({"experiments": ["small"]}, varied / "config")
    fits = [plan.keys.of_cell("fit", cell) for cell in plan.cells[:3]]
    assert len({key.own for key in fits}) == 3
    assert len({key.inputs["bank"] for key in fits}) == 1
    features = {cell.encoder: plan.keys.of("features", "tiny", cell.encoder).own for cell in plan.cells}
    assert len(set(features.values())) == 2


def test_they_are_listed_and_never_a_file(varied, capsys):
    assert main(["ls", "methods", "--config", str(varied / "config")]) == 0
    assert STEPS[0] in capsys.readouterr().out
    (varied / "config/methods/_base.yaml").write_text("title: Base\ndetector: knn\n")
    write_yaml(varied / "config/methods/other.yaml", {"base": "_base", "title": "Other"})
    found = load_catalogue(varied / "config").methods
    assert "_base" not in found
    assert found["other"].detector == "knn"


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        ("foundad@training.stesp=3", "foundad.yaml as 'foundad@training.stesp=3': unknown key 'training.stesp'"),
        ("foundad@training.steps=many", "key 'training.steps'"),
        ("fuondad@training.steps=3", "there is no method 'fuondad@training.steps=3'"),
        (
            {"base": "foundad", "vary": {"training.steps": 3}},
            "key 'cells.0.methods.0.vary': training.steps: write a list",
        ),
        ({"base": "foundad", "vry": {}}, "key 'cells.0.methods.0': write an id, or {base: id, vary: {key: [values]}}"),
    ],
)
def test_what_is_wrong_is_a_line(entry, line, varied):
    path = varied / "config/experiments/small.yaml"
    values = yaml.safe_load(path.read_text())
    values["cells"][0]["methods"] = [entry]
    write_yaml(path, values)
    with pytest.raises(UserError) as error:
        load_catalogue(varied / "config")
    assert any(line in found for found in str(error.value).splitlines()), str(error.value)


@pytest.mark.parametrize(
    ("entry", "lines"),
    [
        ({"base": "foundad", "vary": {"training.stesp": [1, 2, 3], "top_k": [1, 2]}}, ["unknown key 'training.stesp'"]),
        ({"base": "foundat", "vary": {"top_k": [1, 2, 3]}}, ["there is no method 'foundat@top_k=1'; did you mean"]),
        ({"base": "foundad", "vary": {"training.steps": ["few", "many"]}}, ["not 'few'", "not 'many'"]),
    ],
)
def test_one_mistake_of_many_variants_is_one_line(entry, lines, varied):
    path = varied / "config/experiments/small.yaml"
    values = yaml.safe_load(path.read_text())
    values["cells"] = [values["cells"][0] | {"methods": [entry]}]
    write_yaml(path, values)
    with pytest.raises(UserError) as error:
        load_catalogue(varied / "config")
    found = str(error.value).splitlines()
    assert len(found) == len(lines)
    assert all(line in where for line, where in zip(lines, found, strict=True))
