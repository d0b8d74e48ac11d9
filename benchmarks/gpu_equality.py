"""Equal numbers on CUDA and CPU: features, banks, fits, scores, metrics, predictions, search; and the same bits twice.

Float32 on both sides. Bars are of what rounding does: sums of hundreds to thousands of float32 numbers in another order
differ by about 1e-6 to 1e-5 of the largest; tokens are stored as float16, whose steps are 1e-3 of a number.
"""

import contextlib
import io
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
import yaml
from cells import Workshop
from gpu_report import Absent, Found, Report, within

from foundad.cells import Cell
from foundad.cli import main as command_line
from foundad.config.base import dump
from foundad.config.encoder import Encoder
from foundad.config.method import Search
from foundad.data import textures
from foundad.data.images import load_image
from foundad.detection.shared.search import Memory
from foundad.device import Compute, Precision
from foundad.encoders import build_encoder
from foundad.encoders.base import to_input
from foundad.encoders.extraction import encode_files
from foundad.encoders.identity import weights_file
from foundad.errors import UserError
from foundad.paths import AS_IS, PATCH
from foundad.plan.catalogue import load_one
from foundad.plan.project import bank_id
from foundad.sealed import read_tensors

SUMS = "float32 sums in another order"
STEP = "one step of float16"
METRICS = ("i_auroc", "strict/p_auroc", "strict/aupro_30")
ENCODER, DATASET, SHOTS = "efficientnet-lite0", "textures", 2
TORCH = {"search": {"backend": "torch"}}


@dataclass(frozen=True)
class Way:
    """A method of the comparison: what it changes of which method file, and how far its scores and metrics may be apart.

    same: scores on equal tokens, share of their range. apart: metrics from pictures on.
    """

    name: str
    base: str
    same: float
    apart: float
    changes: dict[str, object]


STEPS = {"bank": {"pairs": 16}, "training": {"steps": 30, "feature_dropout": 0}}
WAYS = (
    Way("knn-numpy", "knn", 1e-6, 0.005, {"bank": {"pairs": 16}}),
    Way("knn-torch", "knn", 1e-4, 0.005, {"bank": {"pairs": 16}} | TORCH),
    Way("patchcore-torch", "patchcore-same-features", 1e-4, 0.02, TORCH),
    Way("anomalydino-torch", "anomalydino-same-features", 1e-4, 0.005, TORCH),
    Way("subspacead-numpy", "subspacead-same-features", 1e-6, 0.005, {}),
    Way("spade-torch", "spade-same-features", 1e-4, 0.005, TORCH),
    Way("rad-torch", "rad-same-features", 1e-4, 0.005, TORCH),
    Way("visionad-torch", "visionad-same-features", 1e-4, 0.005, TORCH),
    Way("padim-numpy", "padim-same-features", 1e-6, 0.005, {}),
    Way("fastrecon-numpy", "fastrecon-same-features", 1e-6, 0.02, {}),
    Way("foundad-exact", "foundad", 2e-2, 0.01, STEPS),
)
QUICK = ("knn-torch", "foundad-exact")
SMALL = {"bank": {"pairs": 4}, "projector": {"depth": 1, "width": 32}, "training": {"steps": 4, "feature_dropout": 0}}
# The defaults: dropout is drawn where it is used, and a GPU draws other numbers than a CPU.
DEFAULT = Way("foundad-dropout", "foundad", 1.0, 1.0, {"bank": {"pairs": 16}, "training": {"steps": 30}})


def apart(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, as a share of the largest number."""
    scale = float(np.abs(expected).max()) or 1.0
    return float(np.abs(found.astype(np.float64) - expected.astype(np.float64)).max()) / scale


class Equality:
    """All rows of the section; ``device`` against the CPU."""

    def __init__(self, report: Report, device: str, quick: bool, folder: Path) -> None:
        self.report, self.device, self.quick, self.folder = report, device, quick, folder
        self.threads = torch.get_num_threads()
        self.images: list[Path] = []

    def run(self) -> None:
        """Everything that needs no dataset first."""
        self.report.run("search", self.search)
        for dtype in ("float32", "bfloat16"):
            self.report.run(f"search, 3 neighbours of {dtype} products", partial(self.search, 3, dtype))
        if not self.report.run("dataset, manifest, draw", self.prepare):
            return
        for name, make in self.encoders().items():
            self.features(name, make)
        self.cells()

    def search(self, count: int = 1, dtype: str = "float32") -> Found:
        """Neighbours on the device against numpy's."""
        size, queries, channels = (2000, 300, 64) if self.quick else (40_000, 3000, 384)
        generator = np.random.default_rng(0)
        vectors = generator.normal(size=(size + queries, channels)).astype(np.float32)
        expected, rows = Memory(vectors[:size]).nearest(vectors[size:], count)
        memory = Memory(vectors[:size], Search.model_validate({"backend": "torch", "dtype": dtype}), self.device)
        distances, found = memory.nearest(vectors[size:], count)
        same = f"{(found == rows).mean():.4%} of the rows, distances apart by {apart(distances, expected):.2g}"
        if dtype != "float32":
            return Found(same, numbers={"difference": apart(distances, expected)})
        return within(apart(distances, expected), 1e-5, SUMS, same)

    # ------------------------------------------------------------------------------------------ features

    def encoders(self) -> dict[str, Callable[[], Encoder]]:
        """One of every library, and their concatenation; made where they are needed."""
        side = 64 if self.quick else 224
        config = Path("config")

        def lite(size: int) -> Encoder:
            settings = load_one(config, "encoders", ENCODER)
            values = dump(settings) | {"image_size": size}
            values["features"] |= {"grid": size // 16}
            if weights_file(settings) is None:
                values["weights"] = "random"
            return Encoder.model_validate(values)

        def vit(size: int) -> Encoder:
            values = dump(load_one(config, "encoders", "dinov3-vits16"))
            return Encoder.model_validate(values | {"weights": "random", "image_size": size})

        def other(name: str, **values: object) -> Encoder:
            settings = dump(load_one(config, "encoders", name))
            return Encoder.model_validate(settings | {"weights": "random"} | values)

        options = {"hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 4, "num_attention_heads": 6}
        options |= {"image_size": side, "patch_size": 16, "hidden_act": "quick_gelu"}
        blocks = {"kind": "blocks", "patch": 16, "depth": 4, "norm": False}
        parts = {
            "parts": [dump(vit(side)), dump(lite(side))],
            "library": "concatenation",
            "id": "both",
            "title": "Both",
        }
        found: dict[str, Callable[[], Encoder]] = {
            "timm, EfficientNet-Lite0": partial(lite, 64 if self.quick else 256),
            "timm, DINOv3 ViT-S": partial(vit, side),
            "open_clip, ViT-S-16": partial(other, "open-clip-laion-b16", model="ViT-S-16", channels=384),
            "transformers, CLIPVisionModel": partial(
                other, "clip-b16", options=options, features=blocks, channels=192, image_size=side
            ),
            "concatenation": lambda: Encoder.model_validate(parts | {"licence": "none", "source": "here"}),
        }
        slow = ("timm, DINOv3", "open_clip", "concatenation")
        return {name: make for name, make in found.items() if not (self.quick and name.startswith(slow))}

    def features(self, name: str, make: Callable[[], Encoder]) -> None:
        """Tokens of real pictures: on both devices, twice, and in every other precision."""
        exact: dict[str, np.ndarray] = {}
        paths = self.images[: 4 if self.quick else 8]

        def tokens(compute: Compute) -> tuple[np.ndarray, np.ndarray]:
            settings = make()
            if name.startswith("open_clip"):
                _required("open_clip")
            encoder = build_encoder(settings, compute)
            pixels = np.stack([to_input(load_image(path), settings) for path in paths])
            parts = encode_files(encoder, paths, replace(compute, batch_size=3))
            stored = np.concatenate([part["patch"] for part in parts])
            return encoder.in_memory(encoder.normalise(pixels))["patch"].cpu().numpy(), stored

        def compared() -> Found:
            exact["cpu"], exact["stored"] = tokens(Compute("cpu", 2))
            exact["device"], exact["device stored"] = tokens(Compute(self.device, 2))
            shown = "" if make().weights != "random" else ", random weights"
            difference = apart(exact["device"], exact["cpu"])
            return within(difference, 1e-4, SUMS, f"{difference:.2g}{shown}")

        def again() -> Found:
            _, stored = tokens(Compute(self.device, 2))
            return within(float((stored != exact["device stored"]).mean()), 0, "tokens that are not the same bits")

        def changed(precision: Precision, fast: bool) -> Found:
            if fast and self.device == "cpu":
                raise Absent("compiled on a GPU alone")
            torch._dynamo.reset()
            found, _ = tokens(Compute(self.device, 2, precision=precision, compiled=fast))
            difference = apart(found, exact["device"])
            return Found(f"{difference:.2g} from float32", numbers={"difference": difference})

        if not self.report.run(f"tokens, {name}", compared) or not exact:
            return
        stored = partial(apart, exact["device stored"], exact["stored"])
        self.report.run(f"stored tokens, {name}", lambda: within(stored(), 1e-3, STEP))
        self.report.run(f"tokens twice, {name}", again)
        others: list[tuple[Precision, bool]] = [("tf32", False), ("bfloat16", False)]
        others += [("float32", True)] if name.startswith("timm") and not self.quick else []
        others = [] if self.quick and not name.startswith("transformers") else others
        for precision, fast in others:
            label = f"tokens in {precision}{', compiled' * fast}, {name}"
            self.report.run(label, partial(changed, precision, fast), may_wait=fast)

    # ------------------------------------------------------------------------------------------ cells

    def prepare(self) -> Found:
        """The embedded textures in a workshop of the CPU; quickly: two categories of a few pictures."""
        cpu = self.cpu = Workshop(self.folder / "cpu", self.threads, key="acceptance")
        weighted = weights_file(load_one(cpu.config, "encoders", ENCODER)) is not None
        if not weighted:
            path = cpu.config / "encoders" / f"{ENCODER}.yaml"
            path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"weights": "random"}))
        fewer = {"PHOTOGRAPHS": dict(list(textures.PHOTOGRAPHS.items())[:2]), "TRAIN_IMAGES": 4}
        fewer |= {"NORMAL_TEST_IMAGES": 4, "IMAGES_A_DEFECT": 1}
        with patch.multiple(textures, **fewer) if self.quick else contextlib.nullcontext():
            cpu.prepare(DATASET, SHOTS, range(1))
        self.ways = [way for way in WAYS if not self.quick or way.name in QUICK]
        for way in (*self.ways, DEFAULT):
            small = way.base == "foundad" and self.quick
            cpu.add_method(way.name, base=way.base, **(SMALL if small else way.changes))
        self.images = sorted(cpu.results.data("textures").glob("*/test/*/*.png"))[::3]
        note = "" if weighted else "; the package with the weights of EfficientNet-Lite0 is NOT here: random ones"
        return Found(f"{len(self.images)} pictures to look at{note}")

    def workshop(self, name: str, device: str, precision: Precision = "float32") -> Workshop:
        """A workshop that has all that the CPU's has now."""
        shop = Workshop(self.folder / name, self.threads, precision, device, "acceptance")
        for part in (shop.config, shop.results.root):
            shutil.copytree(self.cpu.folder / part.name, part, dirs_exist_ok=True)
        return shop

    def cells(self) -> None:
        """Banks and features on both devices, then every method on equal tokens and from pictures on."""
        whole = self.workshop("whole", self.device)
        for shop in (self.cpu, whole):
            self.report.run(f"features and banks on {shop.device}", partial(self.encoded, shop))
        for way in self.ways:
            self.report.run(f"bank, {way.name}", partial(self.banks, whole, way))
        mixed = self.workshop("mixed", self.device)
        for way in (*self.ways, DEFAULT):
            if not self.report.run(f"fit on the CPU, {way.name}", partial(self.fitted, self.cpu, way)):
                continue
            self.report.run(f"scores of equal tokens, {way.name}", partial(self.scores, mixed, way))
            self.report.run(f"metrics from pictures on, {way.name}", partial(self.metrics, whole, way))
        for name in ("knn-torch", "foundad-exact"):
            self.report.run(f"exact metrics on the device, {name}", partial(self.evaluated, name))
            self.report.run(f"predict, {name}", partial(self.predicted, name))
        for precision in ("float32",) if self.quick else ("float32", "tf32", "bfloat16"):
            self.report.run(f"the same seed twice, {precision}", partial(self.twice, precision))

    def cell(self, way: Way) -> Cell:
        """Its cell."""
        return Cell(DATASET, ENCODER, way.name, SHOTS, 0)

    def encoded(self, shop: Workshop) -> Found:
        """Features under all query views and all banks, with the class tokens that methods need."""
        features: dict[tuple[str, str], None] = {}
        banks: dict[tuple[str, str], Cell] = {}
        for way in (*self.ways, DEFAULT):
            method = load_one(shop.config, "methods", way.name)
            for array in (PATCH, *method.arrays):
                features |= {(view, array): None for view in (AS_IS, *method.bank.queries)}
                banks[str(method.bank), array] = self.cell(way)
        for view, array in features:
            shop.stage("features", DATASET, ENCODER, "--view", view, "--array", array)
        for (_, array), cell in banks.items():
            shop.bank(cell, array)
        return Found(f"{len(features)} features, {len(banks)} banks")

    def banks(self, shop: Workshop, way: Way) -> Found:
        """The arrays of a way's bank."""
        name = bank_id(load_one(shop.config, "methods", way.name))
        paths = [found.results.bank(DATASET, ENCODER, SHOTS, 0, name) for found in (shop, self.cpu)]
        arrays, expected = (read_tensors(path, "bank")[0] for path in paths)
        tokens = [part for part in expected if expected[part].dtype == np.float16 and expected[part].size]
        return within(max(apart(arrays[part], expected[part]) for part in tokens), 1e-3, STEP)

    def fitted(self, shop: Workshop, way: Way) -> Found:
        """A fit and its metrics."""
        shop.cell("fit", self.cell(way))
        shop.cell("evaluate", self.cell(way))
        return Found(", ".join(f"{name} {shop.metrics(self.cell(way))[name]:.4f}" for name in METRICS))

    def scores(self, shop: Workshop, way: Way) -> Found:
        """Patch scores of a fit on equal tokens."""
        shop.cell("fit", self.cell(way))
        files = [found.results.cell(self.cell(way)) / "scores.safetensors" for found in (shop, self.cpu)]
        arrays, expected = (read_tensors(path, "scores")[0] for path in files)
        difference = max(apart(arrays[name], expected[name]) for name in ("patch_scores", "image_scores"))
        if way is DEFAULT:
            return Found(f"{difference:.2g}: another dropout", numbers={"difference": difference})
        return within(difference, way.same, SUMS if way.same < 2e-2 else "the same through 30 steps of training")

    def metrics(self, shop: Workshop, way: Way) -> Found:
        """Metrics of a cell whose every step was computed on the device."""
        self.fitted(shop, way)
        found, expected = shop.metrics(self.cell(way)), self.cpu.metrics(self.cell(way))
        differences = {name: found[name] - expected[name] for name in METRICS}
        text = ", ".join(f"{name} {value:+.5f}" for name, value in differences.items())
        if way is DEFAULT:
            return Found(text, numbers=differences)
        bar = 0.1 if self.quick else way.apart  # a few pictures make large steps
        return within(max(map(abs, differences.values())), bar, "tokens a float16 step apart", text)

    def evaluated(self, name: str) -> Found:
        """Every metric of the same scores by torch on the device and by numpy."""
        cell = Cell(DATASET, ENCODER, name, SHOTS, 0)
        expected = self.cpu.metrics(cell)
        shop = self.workshop(f"evaluated-{name}", self.device)
        # torch's own way on a CPU as well, where there is no other device
        device = "cpu:0" if self.device == "cpu" else self.device
        shop.stage(
            "evaluate", cell.dataset, cell.encoder, cell.method, "--shots", SHOTS, "--seed", 0, "--device", device
        )
        found = shop.metrics(cell)
        # Thresholds are scores, and of their size.
        known = {name: value for name, value in expected.items() if np.isfinite(value)}
        same = {name: abs(found[name] - value) / max(1.0, abs(value)) for name, value in known.items()}
        worst = max(same, key=lambda name: same[name])
        return within(
            same[worst],
            1e-5,
            "equal scores but for a pixel at a near tie",
            f"{same[worst]:.2g}, {worst}, at most of {len(same)} metrics",
        )

    def predicted(self, name: str) -> Found:
        """Scores that ``foundad predict`` prints for the same model."""
        folder = self.cpu.results.cell(Cell(DATASET, ENCODER, name, SHOTS, 0))
        found = []
        for number, device in enumerate(("cpu", self.device)):
            out = io.StringIO()
            arguments = [
                "predict",
                "--run",
                folder,
                "--out",
                self.folder / f"maps-{name}-{number}",
                "--device",
                device,
                *self.images[:3],
            ]
            with contextlib.redirect_stdout(out):
                code = command_line([*map(str, arguments), "--threads", str(self.threads)])
            if code:
                raise UserError(f"predict on {device} ended with {code}")
            found.append(np.array([float(line.split("\t")[1]) for line in out.getvalue().splitlines()]))
        return within(apart(found[1], found[0]), 5e-3, "tokens a float16 step apart")

    def twice(self, precision: Precision) -> Found:
        """Whether two fits of one seed with everything random in them are the same file."""
        shop = self.workshop(f"twice-{precision}", self.device, precision)
        path = shop.results.cell(self.cell(DEFAULT)) / "model.safetensors"
        files = []
        for _ in range(2):
            shop.cell("fit", self.cell(DEFAULT))
            files.append(path.read_bytes())
        return within(
            float(files[0] != files[1]), 0, "bytes", "other bytes" if files[0] != files[1] else "the same bytes"
        )


def _required(module: str) -> None:
    try:
        __import__(module)
    except ImportError as error:
        raise Absent(f"{module} is not here ({error})") from None
