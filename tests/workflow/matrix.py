"""The staleness matrix: every kind of edit with exactly the jobs that it makes stale. ``make matrix`` prints it.

An edit names the jobs that it affects directly (``must``). All jobs behind them in :func:`laboratory.reads` become
stale as well, and no others. ``may`` names jobs that an edit may redo although their numbers cannot change.
"""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))

from conftest import picture, save, write_yaml
from dropped import DROPPED
from laboratory import METHODS, Planner, behind, change_yaml, changed, reads
from PIL import Image


@dataclass(frozen=True)
class Edit:
    """One edit of a project: its kind and name, what it does, and what it makes stale (patterns of job names)."""

    kind: str
    name: str
    change: Callable[[Path], object]
    must: tuple[str, ...] = ()
    may: tuple[str, ...] = ()
    source: bool = False  # the change is given the folder of the sources, not the project
    run: dict[str, Any] = field(default_factory=dict)  # run config of the call after the edit
    new: bool = False  # jobs are new, which the graph by hand does not know: only patterns of ``must`` are looked at

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}"


PAGES = ("table:*", "figure:*")
EVERYTHING = (
    "manifest:*",
    "masks:*",
    "draw:*",
    "features:*",
    "bank:*",
    "fit:*",
    "evaluate:*",
    "collect:",
    "status:",
    *PAGES,
    "report:",
)


# ---------------------------------------------------------------------------------------------------- data


def rewrite(name: str, keep_time: bool = False) -> Callable[[Path], None]:
    """Another picture of the same mode and size under the same name, in place."""

    def change(project: Path) -> None:
        path = project / name
        before = path.stat()
        with Image.open(path) as image:
            turned = image.transpose(Image.Transpose.ROTATE_90)
        turned.save(path)
        if path.suffix == ".bmp":
            assert path.stat().st_size == before.st_size
        if keep_time:
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    return change


def replace_text(name: str, old: str, new: str) -> Callable[[Path], None]:
    """``new`` instead of ``old`` in a text, in place, with the time it had."""

    def change(project: Path) -> None:
        path = project / name
        before, text = path.stat(), path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    return change


def swap_labels(project: Path) -> None:
    """A normal picture becomes a defective one and the other way round; the list keeps its length."""
    path = project / "data/listed/images.csv"
    text = path.read_text()
    first, second = (
        "normal_0.bmp,test,0,\ndefect_0.bmp,test,1,mask_0.bmp",
        "normal_0.bmp,test,1,mask_0.bmp\ndefect_0.bmp,test,0,",
    )
    assert first in text
    path.write_text(text.replace(first, second))


def touch_everything(project: Path) -> None:
    for path in (project / "data").rglob("*"):
        os.utime(path)


def copy_everything(project: Path) -> None:
    """The same bytes in other files."""
    shutil.copytree(project / "data", project / "again")
    shutil.rmtree(project / "data")
    (project / "again").rename(project / "data")


def of_everything(dataset: str) -> tuple[str, ...]:
    return tuple(f"data:{dataset}/{part}" for part in ("train", "test", "masks"))


def data_edits() -> Iterator[Edit]:
    train, test, masks = (f"data:bolts/{part}" for part in ("train", "test", "masks"))
    # No value of the oracle depends on the pixels of a test picture; that it is done again is a cheap safety.
    oracle = ("fit:*/*/oracle/*",)
    yield Edit("picture", "a training picture", rewrite("data/bolts/bolt/train/good/001.png"), (train,))
    yield Edit("picture", "a normal test picture", rewrite("data/bolts/bolt/test/good/001.png"), (test,), oracle)
    yield Edit("picture", "a defective test picture", rewrite("data/bolts/cloth/test/spot/000.png"), (test,), oracle)
    for keep in (False, True):
        time = ", time kept" if keep else ""
        yield Edit("picture", f"BMP, training{time}", rewrite("data/listed/train_1.bmp", keep), ("data:listed/train",))
        yield Edit(
            "picture", f"BMP, test{time}", rewrite("data/listed/normal_1.bmp", keep), ("data:listed/test",), oracle
        )
        yield Edit("mask", f"BMP{time}", rewrite("data/listed/mask_1.bmp", keep), ("data:listed/masks",))
    yield Edit("mask", "a mask", rewrite("data/bolts/bolt/ground_truth/spot/001_mask.png"), (masks,))
    bolt = "data/bolts/bolt"
    yield Edit(
        "picture", "a new training picture", lambda p: save(picture(77)[0], p / bolt / "train/good/9.png"), (train,)
    )
    yield Edit("picture", "a new test picture", lambda p: save(picture(78)[0], p / bolt / "test/good/9.png"), (test,))
    yield Edit("picture", "a training picture removed", lambda p: (p / bolt / "train/good/000.png").unlink(), (train,))
    yield Edit("picture", "a test picture removed", lambda p: (p / bolt / "test/good/000.png").unlink(), (test,))

    def renamed(project: Path) -> None:
        (project / bolt / "train/good/002.png").rename(project / bolt / "train/good/005.png")

    def moved(project: Path) -> None:
        (project / bolt / "train/good/002.png").rename(project / bolt / "test/good/005.png")

    def no_defect(project: Path) -> None:
        (project / bolt / "test/spot/001.png").unlink()
        (project / bolt / "ground_truth/spot/001_mask.png").unlink()

    yield Edit("picture", "a training picture renamed", renamed, (train,))
    yield Edit("picture", "a training picture becomes a test picture", moved, (train, test))
    yield Edit("picture", "a defect removed with its mask", no_defect, (test, masks))
    yield Edit("mask", "a mask removed", lambda p: (p / bolt / "ground_truth/spot/001_mask.png").unlink(), (masks,))
    yield Edit("list", "two labels swapped", swap_labels, ("data:listed/test", "data:listed/masks"))
    masked = replace_text("data/listed/images.csv", "test,1,mask_0.bmp", "test,1,mask_1.bmp")
    yield Edit("list", "another mask for a picture", masked, ("data:listed/masks",))
    yield Edit("list", "a training picture for testing", other_split, ("data:listed/train", "data:listed/test"))
    draws = replace_text("data/draws.csv", "listed,train_0.bmp", "listed,train_2.bmp")
    yield Edit("list", "another drawn picture", draws, ("draw:listed/*",))
    # The ledger of what lies there names it.
    ledger = ("manifest:bolts/whole", "manifest:listed/whole")
    for name, place in (("a stray file", bolt), ("a stray file beside categories", "data/bolts")):
        yield Edit("stray", name, lambda p, place=place: (p / place / "README.txt").write_text("hello"), (), ledger)
    yield Edit(
        "stray", "an editor's dangling link", lambda p: (p / bolt / "test/good/.#0.png").symlink_to("gone"), (), ledger
    )
    yield Edit("stray", "a link to its own folder", lambda p: (p / bolt / "loop").symlink_to("."), (), ledger)
    yield Edit("stray", "a picture in no list", lambda p: save(picture(5)[0], p / "data/listed/no.bmp"), (), ledger)
    yield Edit("nothing", "every file touched", touch_everything)
    yield Edit("nothing", "every file copied", copy_everything)
    weighed = ("features:*/filed/*", "features:*/both/*", *of_encoder("filed"), *of_encoder("both"))
    oracles = ("fit:*/filed/oracle/*", "fit:*/both/oracle/*")
    yield Edit("weights", "the file of weights", replace_weights, weighed, oracles)


def other_split(project: Path) -> None:
    path = project / "data/listed/images.csv"
    path.write_text(path.read_text().replace("train_2.bmp,train,normal,", "train_2.bmp,test,normal,"))


def replace_weights(project: Path) -> None:
    """Other weights of the same size, with the time of the old ones."""
    path = project / "data/weights.safetensors"
    before = path.stat()
    path.write_bytes(bytes(reversed(range(200))))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


# ---------------------------------------------------------------------------------------------------- config


def yaml_edit(
    kind: str, thing: str, change: dict[str, Any], *must: str, may: tuple[str, ...] = (), name: str = ""
) -> Edit:
    """An edit of config/<kind>/<thing>.yaml."""
    path = f"config/{kind}/{thing}.yaml"
    shown = name or ", ".join(change)
    return Edit(f"{kind} YAML", f"{thing}: {shown}", lambda project: change_yaml(project / path, change), must, may)


def of_encoder(name: str) -> tuple[str, ...]:
    """What reads an encoder: banks, fits of all that learns or scores with tokens, and what is measured."""
    learned = tuple(f"fit:*/{name}/{method}/*" for method in METHODS if method != "oracle")
    return (f"bank:*/{name}/*", *learned, f"observe:*/{name}/*", f"efficiency:*/{name}/*")


def dataset_edits() -> Iterator[Edit]:
    everything = of_everything("bolts")
    shown = ("table:*", "figure:*", "report:", "overview:bolts")
    pages = ("report:",)
    edit = lambda change, *must, **more: yaml_edit("datasets", "bolts", change, *must, **more)  # noqa: E731
    yield edit({"title": "Nuts and bolts"}, *shown)
    yield edit({"licence": "CC BY"}, *pages)
    yield edit({"source": "elsewhere"}, *pages)
    yield edit({"download": {"page": "https://example.org/bolts"}}, may=pages)
    yield edit({"layout": "mvtec-ad-2"}, *everything)
    yield edit({"categories": ["bolt"]}, *everything)
    yield edit({"categories": {"nut": "bolt", "cloth": "cloth"}}, *everything, name="categories renamed")
    yield edit({"strict": False}, *everything)
    yield edit({"max_pixels": 1_000_000}, *everything)
    yield edit({"counts": {"bolt": [1, 2, 3]}}, "manifest:bolts/whole")
    yield edit({"draws": "data/bolts.csv"}, "draw:bolts/*")
    yield edit({"mask_threshold": 100}, "manifest:bolts/truth", "manifest:bolts/whole")
    fits = tuple(f"fit:bolts/*/{method}/*" for method in METHODS if method != "oracle")
    yield edit({"top_k": 5}, *fits, may=("fit:bolts/*/oracle/*",))
    yield edit({"generator": "textures", "root": None}, *everything, name="generator")

    def elsewhere(project: Path) -> None:
        shutil.copytree(project / "data/bolts", project / "elsewhere/bolts")
        change_yaml(project / "config/datasets/bolts.yaml", {"root": "elsewhere/bolts"})

    def other_data(project: Path) -> None:
        change_yaml(project / "config/datasets/bolts.yaml", {"root": "elsewhere/bolts"})
        shutil.copytree(project / "data/bolts", project / "elsewhere/bolts")
        for part in ("train/good", "test/good", "ground_truth/spot"):
            for path in (project / "elsewhere/bolts/bolt" / part).iterdir():
                rewrite(str(path.relative_to(project)))(project)

    yield Edit("datasets YAML", "bolts: root, an equal copy", elsewhere, (), ("manifest:bolts/whole",))
    yield Edit("datasets YAML", "bolts: root, other pictures", other_data, everything)


def encoder_edits() -> Iterator[Edit]:
    everything = ("features:*/tiny/*", "features:*/both/*")
    everything += of_encoder("tiny") + of_encoder("both")
    shown = ("table:*", "figure:*", "report:")
    edit = lambda change, *must, **more: yaml_edit("encoders", "tiny", change, *must, **more)  # noqa: E731
    yield edit({"title": "Small"}, *shown)
    yield edit({"licence": "MIT"}, "report:")
    yield edit({"source": "numbers"}, "report:")
    for change in (
        {"library": "transformers"},
        {"model": "tf_efficientnet_lite1"},
        {"options": {"drop_rate": 0.5}},
        {"weights": {"path": "data/draws.csv"}},
        {"interpolation": "bicubic"},
        {"size_mode": "crop"},
        {"mean": [0.4, 0.5, 0.5]},
        {"std": [0.5, 0.5, 0.6]},
        {"features.strides": [16]},
        {"features.pool": 1},
        {"features.upsampling": "nearest"},
        {"features": {"kind": "blocks", "patch": 8, "depth": 12, "layer": 4}},
    ):
        name = next(iter(change))
        oracle = ("fit:*/tiny/oracle/*", "fit:*/both/oracle/*")
        yield edit(change, *everything, may=oracle, name=f"{name} {change[name]!r:.20}")
    # Read from the stored features by methods: the features may be left as they are.
    of_features = tuple(name for name in everything if name.startswith(("features", "bank")))
    fits = tuple(f"fit:*/tiny/{method}/*" for method in METHODS if method not in ("oracle", "random"))
    controls = ("fit:*/tiny/*", "fit:*/both/*", "observe:*", "efficiency:*")
    yield edit({"tokens": "standardised"}, *fits, may=(*of_features, *controls))

    def size(project: Path) -> None:
        for name in ("tiny", "filed"):
            change_yaml(project / f"config/encoders/{name}.yaml", {"image_size": 128})

    def grid(project: Path) -> None:
        for name in ("tiny", "filed"):
            change_yaml(project / f"config/encoders/{name}.yaml", {"features.grid": 4})

    def channels(project: Path) -> None:
        change_yaml(project / "config/encoders/tiny.yaml", {"channels": 20})

    yield Edit("encoders YAML", "tiny, filed: image_size", size, ("masks:*", "features:*", *EVERYTHING[4:]))
    oracle = ("fit:*/*/oracle/*",)
    yield Edit("encoders YAML", "tiny, filed: grid", grid, ("features:*", *of_encoder("*")), oracle)
    yield Edit("encoders YAML", "tiny: channels", channels, everything, ("fit:*/tiny/oracle/*", "fit:*/both/oracle/*"))
    parts = yaml_edit(
        "encoders",
        "both",
        {"parts": ["filed", "tiny"]},
        "features:*/both/*",
        *of_encoder("both"),
        may=("fit:*/both/oracle/*",),
    )
    yield parts
    of_filed = ("features:*/filed/*", "features:*/both/*", *of_encoder("filed"), *of_encoder("both"))
    oracles = ("fit:*/filed/oracle/*", "fit:*/both/oracle/*")
    yield yaml_edit("encoders", "filed", {"features.channels": [40]}, *of_filed, may=oracles)


def method_edits() -> Iterator[Edit]:
    shown = ("table:small/*", "figure:small/*", "report:")
    trained = ("fit:*/foundad/*", "fit:*/fresh/*")  # fresh is based on foundad
    banks = ("bank:*/foundad/*", *trained)
    edit = lambda change, *must, **more: yaml_edit("methods", "foundad", change, *must, **more)  # noqa: E731
    yield edit({"title": "Found"}, *shown)
    yield edit({"control": True}, *shown)
    yield edit({"scope": "category"}, *trained, may=("figure:small/*",))  # a mark in every title
    for change in (
        {"top_k": 3},
        {"top_share": 0.1},
        {"score_size": 16},
        {"contrast": {"weight": 0.4}},
        {"normalise_tokens": True},
        {"projector.type": "mlp"},
        {"projector.depth": 2},
        {"projector.width": 64},
        {"projector.heads": 2},
        {"projector.mlp_ratio": 2.0},
        {"projector.position_embedding": True},
        {"training.steps": 5},
        {"training.order": "drop-last"},
        {"training.batch_size": 4},
        {"training.learning_rate": 0.002},
        {"training.schedule": "cosine"},
        {"training.final_rate": 0.2},
        {"training.step_length": 2},
        {"training.step_factor": 0.5},
        {"training.warmup": 2},
        {"training.weight_decay": 0.0},
        {"training.loss": "smooth-l1"},
        {"training.feature_dropout": 0.1},
        {"training.synthetic_probability": 0.4},
        {"training.gate": "batch"},
    ):
        yield edit(change, *trained)
    yield edit({"training": {"steps": None, "epochs": 3}}, *trained, name="training.epochs")
    yield edit({"training.pairs": "fresh"}, "fit:*/foundad/*", may=("fit:*/fresh/*",))
    # The model keeps it for prediction, so that the fit may run again; what must is the evaluation.
    yield edit({"smoothing": 1.0}, "evaluate:*/foundad/*", "evaluate:*/fresh/*", may=trained)
    for change in (
        {"bank.pairs": 10},
        {"bank.rotations": 2},
        {"bank.flips": ["horizontal"]},
        {"bank.angles": [5]},
        {"bank.shifts": [[0.02, 0.0]]},
        {"bank.greyscale": True},
        {"bank.augmentation.geometric_probability": 0.4},
        {"bank.augmentation.appearance_probability": 0.4},
        {"bank.augmentation.colour_jitter": False},
        {"bank.augmentation.greyscale": False},
        {"bank.augmentation.blur": False},
        {"bank.augmentation.rotation": "cropped"},
        {"bank.augmentation.horizontal_flip": False},
        {"bank.augmentation.vertical_flip": False},
        {"bank.augmentation.rotate_90": False},
        {"bank.synthesis.foreground": "whole"},
        {"bank.synthesis.placement": "corner"},
        {"bank.synthesis.normal_probability": 0.4},
        {"bank.synthesis.area_range": [0.02, 0.3]},
        {"bank.synthesis.aspect_range": [0.5, 2.0]},
        {"bank.synthesis.scar_width_range": [2, 12]},
        {"bank.synthesis.scar_height_range": [10, 20]},
        {"bank.synthesis.scar_angle": 30.0},
        {"bank.synthesis.scar_corners": "pasted"},
        {"bank.synthesis.jitter": 0.4},
        {"bank.synthesis.jitter_space": "normalised"},
    ):
        yield edit(change, *banks)
    knn = "fit:*/knn/*"
    for change in (
        {"top_k": 2},
        {"local_mean": 3},
        {"search": {"backend": "torch"}},
        {"search": {"backend": "torch", "dtype": "bfloat16"}},
    ):
        yield yaml_edit("methods", "knn", change, knn, name=str(change))
    yield yaml_edit("methods", "knn", {"detector": "subspacead"}, knn)
    yield yaml_edit("methods", "knn", {"bank.pairs": 4}, "bank:*/knn/*")
    yield yaml_edit("methods", "fresh", {"training.steps": 6}, "fit:*/fresh/*", name="a key over its base")
    yield yaml_edit("methods", "fresh", {"base": None, "detector": "foundad"}, "fit:*/fresh/*", name="without its base")
    views = lambda project: change_yaml(project / "config/methods/views.yaml", {"bank.queries": ["flip-vertical"]})  # noqa: E731
    yield Edit("methods YAML", "views: bank.queries", views, ("bank:*/views/*", "fit:*/views/*"), new=True)

    def unused(project: Path) -> None:
        write_yaml(project / "config/methods/spade.yaml", {"title": "New", "detector": "spade"})

    yield Edit("methods YAML", "a new method that nothing runs", unused)


def experiment_edits() -> Iterator[Edit]:
    edit = lambda change, *must, **more: yaml_edit("experiments", "small", change, *must, **more)  # noqa: E731
    yield edit({"title": "Tiny"}, "report:")
    yield edit({"skip_if_absent": True}, may=("report:",))
    table = "table:small/main"
    for key, value in (("caption", "Some"), ("metrics", ["i_ap", "i_auroc"]), ("columns", ["dataset", "shots"])):
        yield edit({f"tables.main.{key}": value}, table)
    yield edit({"tables.main.rows": ["method", "encoder"]}, table)
    yield edit({"tables.main.where": {"method": ["knn", "random"]}}, table)
    yield edit({"tables.main.published": True}, table)
    yield edit({"tables.cost.caption": "Costs"}, "table:small/cost")
    yield edit({"figures.dots.title": "Points"}, "figure:small/dots")
    yield edit({"figures.dots.lines": "dataset", "figures.dots.where": {"method": ["knn"]}}, "figure:small/dots")
    yield edit({"figures.gallery.random": 2}, "figure:small/gallery")
    yield edit({"figures.gallery.seed": 1}, "figure:small/gallery")
    yield edit({"figures.seen.title": "Observed"}, "figure:small/seen")
    yield edit({"figures.sweep.values": [1, 2]}, "figure:small/sweep")
    other = yaml_edit("experiments", "other", {"tables.one.caption": "Two"}, "table:other/one")
    yield other
    seeds = (
        "draw:*/1/2",
        "bank:*/1/2",
        "fit:*/1/2",
        "evaluate:*/1/2",
        "collect:",
        "status:",
        "table:small/*",
        "figure:small/*",
        "report:",
    )
    more = lambda change, **names: Edit(  # noqa: E731
        "experiments YAML",
        names["name"],
        lambda p: change_yaml(p / "config/experiments/small.yaml", change),
        names["must"],
        names["may"],
        new=True,
    )
    anything = ("observe:*/1/2", "efficiency:*/1/2", "table:*", "figure:*")
    yield more({"cells.0.seeds": [0, 1, 2]}, name="a new seed", must=seeds, may=anything)
    shots = tuple(name.replace("/1/2", "/2/*") for name in seeds)
    yield more(
        {"cells.0.shots": [1, 2], "tables.main.columns": ["dataset", "shots"], "figures.dots.where": {"shots": [1]}},
        name="a new number of shots",
        must=shots,
        may=PAGES,
    )


def run_edits() -> Iterator[Edit]:
    nothing = lambda project: None  # noqa: E731
    tokens = (
        "features:*",
        "bank:*",
        *(f"fit:*/{method}/*" for method in METHODS if method not in ("oracle", "random")),
    )
    controls = ("fit:*/oracle/*", "fit:*/random/*")
    kept = {"keep": {"features": "while-needed"}}
    elsewhere = (
        {"device": "auto"},
        {"batch_size": 4},
        {"threads": {"features": 1}},
        {"size": "paper"},
        {"warm": False},
    )
    for run in (*elsewhere, kept):
        yield Edit("run YAML", str(run), nothing, run=run)
    yield Edit("run YAML", "results elsewhere", nothing, run={"results": "others"})
    yield Edit(
        "run YAML",
        "precision",
        nothing,
        tokens,
        (*controls, "observe:*", "efficiency:*"),
        run={"precision": "bfloat16"},
    )
    yield Edit("run YAML", "compile", nothing, tokens, controls, run={"compile": True})


# ---------------------------------------------------------------------------------------------------- sources, versions

# File -> what depends on it. Files that every job uses make everything stale.
FITS = tuple(f"fit:*/{method}/*" for method in METHODS)
LEARNED = tuple(f"fit:*/{method}/*" for method in METHODS if method not in ("oracle", "random"))
ENCODED = ("features:*", "bank:*", "fit:*/fresh/*", "observe:*", "efficiency:*")
SOURCES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "foundad/sealed.py": (EVERYTHING, ("overview:*",)),
    "foundad/cells.py": (
        (*FITS, "evaluate:*", "observe:*", "efficiency:*", "collect:", "status:", *PAGES, "report:"),
        (),
    ),
    "foundad/config/base.py": (EVERYTHING, ("overview:*",)),
    "foundad/config/dataset.py": (EVERYTHING, ("overview:*",)),
    "foundad/config/encoder.py": (("features:*", "bank:*", *FITS, "observe:*", "efficiency:*"), ()),
    "foundad/config/bank.py": (("bank:*", "fit:*/fresh/*", "observe:*", "efficiency:*"), ()),
    "foundad/config/method.py": ((*FITS, "observe:*", "efficiency:*"), ()),
    "foundad/config/experiment.py": (("report:",), ()),
    "foundad/config/run.py": ((), ()),
    "foundad/data/layouts/mvtec.py": (("manifest:bolts/*",), ()),
    "foundad/data/layouts/table.py": (("manifest:listed/*",), ()),
    "foundad/data/layouts/visa.py": ((), ()),
    "foundad/data/layouts/elpv.py": ((), ()),
    "foundad/data/layouts/__init__.py": (("manifest:*",), ()),
    "foundad/data/layout.py": (("manifest:*",), ()),
    "foundad/data/entry.py": (("manifest:*",), ()),
    "foundad/data/verify.py": (("manifest:*",), ()),
    "foundad/data/masks.py": (("manifest:*", "masks:*"), ("overview:*",)),
    "foundad/data/ledger.py": (("manifest:*",), ("overview:*",)),
    "foundad/data/patches.py": (("bank:*", *FITS, "observe:*", "efficiency:*"), ()),
    "foundad/data/views.py": (ENCODED, ()),
    "foundad/data/draws.py": (("draw:*",), FITS),
    "foundad/encoders/extraction.py": (("features:*",), ("efficiency:*",)),
    "foundad/pairs/encoder.py": (("bank:*", "fit:*/fresh/*"), ()),
    "foundad/pairs/cutpaste.py": (("bank:*", "fit:*/fresh/*", "observe:*"), ()),
    "foundad/pairs/augmentation.py": (("bank:*", "fit:*/fresh/*"), ()),
    "foundad/encoders/__init__.py": (ENCODED, ()),
    "foundad/encoders/base.py": (ENCODED, ()),
    "foundad/encoders/libraries/__init__.py": ((), ()),
    "foundad/encoders/libraries/timm.py": (ENCODED, ()),
    "foundad/encoders/libraries/open_clip.py": ((), ()),
    "foundad/encoders/libraries/transformers.py": ((), ()),
    "foundad/encoders/libraries/concatenation.py": (
        (
            "features:*/both/*",
            "bank:*/both/*",
            "fit:*/both/fresh/*",
            "observe:*/both/*",
            "efficiency:*/both/*",
        ),
        (),
    ),
    "foundad/rehearsal/project.py": ((), ()),
    "foundad/generators.py": (("bank:*", "fit:*/fresh/*", "fit:*/random/*", "observe:*"), ()),
    "foundad/detection/fitting.py": (FITS, ()),
    "foundad/detection/protocol.py": ((*FITS, "observe:*", "efficiency:*"), ()),
    "foundad/detection/truth.py": (("fit:*/oracle/*",), ()),
    "foundad/detection/shared/training.py": (("fit:*/foundad/*", "fit:*/fresh/*"), ()),
    "foundad/detection/shared/training_settings.py": (("fit:*/foundad/*", "fit:*/fresh/*"), ()),
    "foundad/detection/shared/stable_adamw.py": ((), ()),
    "foundad/method/detector.py": (("fit:*/foundad/*", "fit:*/fresh/*"), ()),
    "foundad/method/projector.py": (("fit:*/foundad/*", "fit:*/fresh/*"), ()),
    "foundad/method/settings.py": (("fit:*/foundad/*", "fit:*/fresh/*"), ()),
    "foundad/method/checkpoint.py": ((), ()),
    "foundad/detection/shared/search.py": (("fit:*/knn/*", "fit:*/views/*"), ("efficiency:*",)),
    "baselines/knn.py": (("fit:*/knn/*",), ()),
    "baselines/random.py": (("fit:*/random/*",), ()),
    "baselines/oracle.py": (("fit:*/oracle/*",), ()),
    "baselines/visionad.py": (("fit:*/views/*",), ()),
    "baselines/spade.py": ((), ()),
    "foundad/stages/masks.py": (("masks:*",), ()),
    "foundad/metrics/masks.py": (("masks:*",), ()),
    "foundad/metrics/runs.py": (("masks:*",), ()),
    "foundad/metrics/defects.py": (("masks:*", "fit:*/oracle/*", "evaluate:*"), ()),
    "baselines/inp_former/network.py": ((), ()),
    "baselines/reconstruction/losses.py": ((), ()),
    "foundad/metrics/evaluation.py": (("evaluate:*",), ()),
    "foundad/metrics/category.py": (("evaluate:*",), ()),
    "foundad/metrics/pixels.py": (("evaluate:*",), ()),
    "foundad/metrics/threshold.py": (("evaluate:*",), ()),
    "foundad/metrics/metric.py": (("evaluate:*", "figure:small/sweep"), ()),
    "foundad/metrics/entries/strict.py": ((), ()),
    "foundad/metrics/pro.py": (("evaluate:*",), ()),
    "foundad/metrics/pimo.py": (("evaluate:*",), ()),
    # No method here takes its image scores from a map; what is measured loads any model.
    "foundad/metrics/maps.py": (("evaluate:*", "figure:small/gallery"), ("observe:*", "efficiency:*")),
    "foundad/metrics/ranking.py": (("evaluate:*", "figure:small/sweep"), ()),
    "foundad/report/collect.py": (("collect:",), ()),
    "foundad/method/observation.py": (("observe:*",), ()),
    "foundad/detection/efficiency.py": (("efficiency:*",), ()),
    "foundad/report/shown.py": (PAGES, ()),
    "foundad/report/choice.py": (PAGES, ("report:",)),
    "foundad/report/numbers.py": (PAGES, ()),
    "foundad/report/kinds.py": ((), ()),  # which says what there is
    "foundad/report/tables/__init__.py": ((), ()),
    "foundad/report/tables/base.py": (("table:*",), ()),
    "foundad/report/tables/metrics.py": (("table:small/main", "table:other/one"), ()),
    "foundad/report/tables/efficiency.py": (("table:small/cost",), ()),
    "foundad/report/formats.py": (("table:*",), ("report:",)),
    "foundad/report/published.py": (("table:*",), ()),
    "foundad/report/figures/__init__.py": ((), ()),
    "foundad/report/figures/base.py": (("figure:*",), ()),
    "foundad/report/figures/curve.py": ((), ()),
    "foundad/report/figures/dots.py": (("figure:small/dots",), ()),
    "foundad/report/figures/gallery.py": (("figure:small/gallery",), ()),
    "foundad/report/figures/observation.py": (("figure:small/seen",), ()),
    "foundad/report/figures/top_k.py": (("figure:small/sweep",), ()),
    "foundad/report/panels.py": (("figure:small/dots", "figure:small/sweep"), ()),
    "foundad/report/overlay.py": (("figure:small/gallery",), ()),
    "foundad/report/style.py": (("figure:*", "overview:*"), ()),
    "foundad/report/aggregate.py": (("table:*", "figure:small/dots", "figure:small/sweep"), ()),
    "foundad/report/overview.py": (("overview:*",), ()),
    "foundad/report/page/overview.py": (("report:",), ()),
    "foundad/report/page/page.css": (("report:",), ()),
    "foundad/stages/status.py": (("status:",), ()),
    "foundad/data/get.py": ((), ()),
    "foundad/data/download.py": ((), ()),
    "foundad/plan/cost.py": ((), ()),
    "foundad/plan/batches.py": ((), ()),
    "foundad/plan/outlook.py": ((), ()),
    "foundad/warm/client.py": ((), ()),
    "foundad/warm/server.py": ((), ()),
    "foundad/predict.py": ((), ()),
    "foundad/api.py": ((), ()),
    "foundad/exporting.py": ((), ()),
    "foundad/own/project.py": ((), ()),
    "foundad/plan/copies.py": ((), ()),
    "foundad/report/predictions/__init__.py": ((), ()),
    "foundad/data/textures.py": ((), ()),
}
# No result depends on these (docs/staleness.md).
APART = (
    *("errors", "failures", "names", "files", "paths", "key", "provenance", "stages/base", "discovery", "yamlfile"),
    *("detection/registry", "metrics/registry", "encoders/identity", "encoders/weights"),
)
SOURCES |= {f"foundad/{name}.py": ((), ()) for name in APART}
VERSIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "numpy": (
        ("masks:*", "draw:*", *ENCODED, *FITS, "evaluate:*"),
        ("manifest:*", *PAGES, "report:", "collect:", "overview:*"),
    ),
    "pillow": (("manifest:*", "masks:*"), ("overview:*",)),
    "torch": (("features:*", "bank:*", "fit:*/foundad/*", "fit:*/fresh/*", "observe:*", "efficiency:*"), FITS),
    "timm": (ENCODED, FITS),
    "torchvision": (("bank:*",), (*ENCODED, *FITS)),
    "scipy": (("masks:*", "evaluate:*"), (*ENCODED, *FITS, *PAGES)),
    "transformers": ((), ()),
    "open_clip_torch": ((), ()),
    "pytest": ((), ()),
    "snakemake": ((), ()),
}


def source_edits() -> Iterator[Edit]:
    for name, (must, may) in SOURCES.items():
        yield Edit("source", name, lambda sources, name=name: append(sources / name), must, may, source=True)

    def dropped(sources: Path) -> None:
        shutil.copy(sources / "baselines/knn.py", sources / "baselines/dropped.py")

    def folder_dropped(sources: Path) -> None:
        shutil.copytree(sources / "foundad/method", sources / "baselines/trained")

    yield Edit("source", "a new baseline that nothing uses", dropped, source=True)
    yield Edit("source", "a new trained baseline that nothing uses", folder_dropped, source=True)
    yield Edit("source", "a new layout that nothing uses", drop("foundad/data/layouts"), source=True)
    yield Edit("source", "a new encoder library that nothing uses", drop("foundad/encoders/libraries"), source=True)
    yield Edit("source", "a new metric", drop("foundad/metrics/entries"), ("evaluate:*",), source=True)
    words = ("table:small/main", "table:other/one", "report:")
    entries = "foundad/metrics/entries"
    edit = replace_text(f"{entries}/strict.py", '"P-AUROC"', '"Pixels"')
    yield Edit("source", "words of a pixel metric", edit, words, source=True)
    edit = replace_text(f"{entries}/images.py", "area under the ROC curve", "area")
    shown = (*words, "figure:small/dots", "figure:small/sweep")
    yield Edit("source", "words of an image metric", edit, shown, source=True)
    edit = replace_text(f"{entries}/released.py", "P-F1max", "Other")
    yield Edit("source", "words of a metric that the page alone shows", edit, ("report:",), source=True)
    edit = replace_text(f"{entries}/strict.py", "pro:aupro_05", "pro:aupro_30")
    yield Edit("source", "another function of a metric", edit, ("evaluate:*",), source=True)

    def new_kinds(sources: Path) -> None:
        for place, other, kind in (
            ("figures/dots.py", "figures/spots.py", "dots"),
            ("tables/efficiency.py", "tables/effort.py", "efficiency"),
        ):
            text = (sources / "foundad/report" / place).read_text()
            new = Path(other).stem
            (sources / "foundad/report" / other).write_text(text.replace(f'Literal["{kind}"]', f'Literal["{new}"]'))

    yield Edit("source", "a new kind of figure and of table that nothing uses", new_kinds, source=True)


def drop(folder: str) -> Callable[[Path], object]:
    """The file of :mod:`dropped` for ``folder``, beside those that are there."""
    return lambda sources: (sources / folder / "dropped.py").write_text(DROPPED[folder])


def append(path: Path) -> None:
    """A comment more: no number changes, but a hash of sources cannot know."""
    comment = "/* more */\n" if path.suffix == ".css" else "# more\n"
    path.write_text(path.read_text() + comment)


def version_edits() -> Iterator[Edit]:
    for name, (must, may) in VERSIONS.items():

        def other(folder: Path, name: str = name) -> None:
            place = folder / f"stub/{name}-99.0.dist-info"
            place.mkdir(parents=True)
            (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 99.0\n")

        yield Edit("version", name, other, must, may)


def edits() -> list[Edit]:
    """The whole matrix."""
    makers = (
        data_edits,
        dataset_edits,
        encoder_edits,
        method_edits,
        experiment_edits,
        run_edits,
        source_edits,
        version_edits,
    )
    return [edit for maker in makers for edit in maker()]


# ---------------------------------------------------------------------------------------------------- trying them

# Their keys alone must say all: a missing file of theirs is never taken for one that is not needed.
CHAINED = (
    "manifest",
    "masks",
    "draw",
    "features",
    "bank",
    "fit",
    "evaluate",
    "observe",
    "efficiency",
    "collect",
    "status",
)


def verdict(edit: Edit, project: Path, planners: tuple[Planner, Planner]) -> str:
    """Apply ``edit`` to ``project`` (a copy that is its own); nothing, or what is stale and should not be, or the reverse.

    The first of ``planners`` remembers its sources, the second reads them again.
    """
    graph = reads()
    planner = planners[edit.kind in ("source", "version")]
    before = planner.first(project) if edit.kind in ("source", "version") else planner.jobs(project)
    kept: dict[Path, bytes] = {}
    if edit.source:
        kept = {path: path.read_bytes() for path in planner.sources.rglob("*") if path.is_file()}
        edit.change(planner.sources)
    else:
        edit.change(project)
    try:
        after = planner.jobs(project, run=edit.run, paths=[str(project / "stub")])
    finally:
        if edit.source:
            restore(planner.sources, kept)
    stale = changed(before, after)
    if edit.new:
        graph |= {name: set() for name in after if name not in graph}
    must = behind(graph, edit.must)
    may = behind(graph, edit.may) if edit.may else set()
    if edit.new:
        may |= {name for name in after if name not in before}
    # Snakemake runs what lies behind a job that runs; keys must say so themselves up to the numbers.
    missing = {name for name in must - stale if name.partition(":")[0] in CHAINED}
    missing |= must - behind(graph, stale) if stale else must
    needless = (behind(graph, stale) if stale else set()) - must - may
    parts = [f"not stale: {summary(missing)}"] * bool(missing) + [f"stale for nothing: {summary(needless)}"] * bool(
        needless
    )
    return "; ".join(parts)


def restore(folder: Path, kept: dict[Path, bytes]) -> None:
    """Put the files of ``folder`` back as they were."""
    for path in folder.rglob("*"):
        if path.is_file() and path not in kept:
            path.unlink()
    for path, data in kept.items():
        if path.read_bytes() != data:
            path.write_bytes(data)


def summary(names: set[str]) -> str:
    """How many of each rule, with an example."""
    rules = sorted({name.partition(":")[0] for name in names})
    of = {rule: sorted(name for name in names if name.startswith(f"{rule}:")) for rule in rules}
    return ", ".join(f"{len(found)} {rule} ({found[0].partition(':')[2]})" for rule, found in of.items())


def both_planners(folder: Path) -> tuple[Planner, Planner]:
    """The two that :func:`verdict` asks."""
    return Planner(folder / "warm", remember=True), Planner(folder / "cold")


def main() -> int:
    """Try every edit and print what came out."""
    import tempfile

    from laboratory import copied, whole_project

    right = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pristine = whole_project(folder / "pristine")
        planners = both_planners(folder)
        found = edits()
        for number, edit in enumerate(found):
            project = copied(pristine, folder / str(number))
            try:
                problem = verdict(edit, project, planners)
            except AssertionError as error:
                problem = str(error).strip().splitlines()[-1]
            shutil.rmtree(project)
            right += not problem
            sys.stdout.flush()
            print(f"{'right' if not problem else 'WRONG'}  {edit}{'  ' + problem if problem else ''}")
        for planner in planners:
            planner.close()
    print(f"staleness matrix: {len(found)} edits tried, {right} right")
    return int(right < len(found))


if __name__ == "__main__":
    sys.exit(main())
