"""YAML of every kind: read by the catalogue, and by the plan of a run, each in a config folder of small files."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from mutators import either, of_bytes, of_yaml
from target import ROOT, Target, new_folder

from foundad.plan import catalogue
from foundad.plan.catalogue import KINDS
from foundad.plan.selection import Plan

DATASET = """\
title: Small
layout: mvtec
root: nowhere
categories: {bolt: parts/bolt, nut: nut}
strict: false
counts: {bolt: [5, 2, 3], nut: [7, 3]}
mask_threshold: 127
top_k: {demo: 3, paper: 10}
download:
  page: https://example.org/set
  archive: set.zip
  url: https://example.org/set.zip
licence: MIT
source: nobody
"""
STAGES = """\
title: Stages
library: timm
model: tf_efficientnet_lite0
weights: {package: p, module: m, file: f, sha256: 579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db}
image_size: 64
mean: [0.5, 0.5, 0.5]
std: [0.5, 0.5, 0.5]
features: {kind: stages, strides: [8, 16], pool: 3, grid: 8, channels: [40, 112]}
channels: 152
tokens: unit
licence: MIT
source: nobody
"""
BLOCKS = """\
title: Blocks
library: timm
model: vit_base_patch16_224
options: {dynamic_img_size: true}
weights: {repository: timm/vit, revision: main, file: model.safetensors}
image_size: 128
mean: [0.5, 0.5, 0.5]
std: [0.5, 0.5, 0.5]
features:
  kind: blocks
  patch: 16
  depth: 12
  layers: [3, 6]
  combine: average
channels: 768
licence: MIT
source: nobody
"""
CONCATENATION = "title: Both\nlibrary: concatenation\nparts: [one, two]\nlicence: MIT\nsource: nobody\n"
METHOD = """\
title: Trained
detector: foundad
bank: {pairs: {demo: 4, paper: 8}, rotations: 2, flips: [horizontal], augmentation: {rotate_90: false}}
projector: {type: vit, depth: 2, width: 64, heads: 2}
training:
  steps: 5
  learning_rate: {demo: 0.005, paper: 0.001}
  schedule: cosine
top_share: 0.1
"""
EXPERIMENT = """\
title: Small experiment
skip_if_absent: true
cells:
  - {datasets: [small], encoders: [stages], methods: [trained, near], shots: [1, 2], seeds: [0, 1]}
tables:
  main:
    caption: All
    rows: [method]
    columns: [dataset, shots]
    metrics: [i_auroc, strict/p_auroc]
    where: {encoder: [stages], method: [trained]}
  cost: {kind: efficiency, caption: Cost, where: {shots: [1]}}
figures:
  shots: {kind: curve, title: Shots, x: shots, metrics: [i_auroc], where: {method: [trained, near]}}
  steps: {kind: curve, title: Steps, x: method.training.steps, metrics: [i_auroc], where: {method: [trained], shots: [1]}}
  dots: {kind: dots, title: Dots, x: shots, lines: method, metrics: [i_auroc]}
  both: {kind: protocols, title: Both, where: {shots: [1]}}
  top: {kind: top-k, title: Top, values: [1, 3], where: {shots: [2]}}
  seen: {kind: observation, title: Seen, datasets: [small], encoders: [stages], method: trained, shots: 1}
  gallery: {kind: gallery, title: Gallery, dataset: small, encoder: stages, method: trained, shots: 1}
"""
RUN = """\
experiments: [small]
size: demo
results: results
device: cpu
precision: float32
compile: false
batch_size: 4
threads: {manifest: 1, features: 1}
"""
FILES = {
    "datasets/small": DATASET,
    "encoders/stages": STAGES,
    "encoders/one": STAGES.replace(", channels: [40, 112]", ""),
    "encoders/two": STAGES.replace(", channels: [40, 112]", ""),
    "encoders/blocks": BLOCKS,
    "encoders/both": CONCATENATION,
    "methods/trained": METHOD,
    "methods/near": "title: Near\ndetector: knn\nsearch: {backend: torch, dtype: bfloat16}\n",
    "methods/child": "base: trained\ntitle: Child\nprojector: {depth: 1}\n",
    "experiments/small": EXPERIMENT,
}


def write_folder(folder: Path) -> None:
    """A config folder of the small files."""
    for name, text in FILES.items():
        path = folder / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "config.yaml").write_text(RUN)


def real_files(kind: str) -> list[bytes]:
    """The shortest shipped files of ``kind``."""
    paths = sorted((ROOT / "config" / kind).glob("*.yaml"), key=lambda path: (path.stat().st_size, path.name))
    return [path.read_bytes() for path in paths[:4] if b"base:" not in path.read_bytes()]


def one(kind: str) -> Target:
    """One file of ``kind``, read by itself; an experiment also beside the things that it names."""
    folder = new_folder("yaml")
    write_folder(folder)
    seeds = [text.encode() for name, text in FILES.items() if name.startswith(f"{kind}/")] + real_files(kind)
    path = folder / kind / "fuzzed.yaml"
    sizes = catalogue.SIZES

    def read(data: bytes) -> None:
        path.write_bytes(data)
        catalogue.load_one(folder, kind, "fuzzed", sizes[len(data) % len(sizes)])
        if kind == "experiments":
            catalogue.load_catalogue(folder)

    return Target(f"yaml-{kind}", seeds, read, either(of_yaml, of_yaml, of_yaml, of_bytes), (".yaml",), folder)


def run_config() -> Target:
    """The run config, as the plan takes it."""
    folder = new_folder("run")
    write_folder(folder)
    path = folder / "run.yaml"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        plan = Plan(catalogue.read_yaml(folder / "config.yaml") | catalogue.read_yaml(path), folder)
        _ = plan.cells, plan.tables, plan.figures

    return Target("yaml-run", [RUN.encode()], read, either(of_yaml, of_yaml, of_bytes), (".yaml",), folder)


def planned() -> Target:
    """A right catalogue with one value changed anywhere, through the plan and every key of its jobs."""
    folder = new_folder("plan")
    write_folder(folder)

    def read(data: bytes) -> None:
        head, _, text = data.partition(b"\n")
        name = head.decode(errors="replace")
        if name in FILES:
            (folder / f"{name}.yaml").write_bytes(text)
        try:
            walk()
        finally:
            if name in FILES:
                (folder / f"{name}.yaml").write_text(FILES[name])

    def walk() -> None:
        plan = Plan(catalogue.read_yaml(folder / "config.yaml"), folder)
        for cell in plan.cells:
            job = plan.job("fit", **vars(cell))
            plan.inputs(job)
            plan.key(job)
            plan.key(plan.job("manifest", dataset=cell.dataset))
        for experiment in plan.experiments:
            for table in experiment.tables:
                plan.key(plan.job("table", experiment=experiment.id, table=table))
            for figure in experiment.figures:
                plan.key(plan.job("figure", experiment=experiment.id, figure=figure))

    seeds = [
        f"{name}\n{text.replace('skip_if_absent: true', 'skip_if_absent: false')}".encode()
        for name, text in FILES.items()
    ]
    return Target("yaml-plan", seeds, read, of_body, (".yaml",), folder)


def of_body(data: bytes, random, others=()) -> bytes:  # type: ignore[no-untyped-def]
    """Edit what stands behind the first line, which names the file."""
    name, _, text = data.partition(b"\n")
    return name + b"\n" + either(of_yaml, of_yaml, of_bytes)(text, random, ())


TARGETS: dict[str, Callable[[], Target]] = {f"yaml-{kind}": partial(one, kind) for kind in KINDS}
TARGETS |= {"yaml-run": run_config, "yaml-plan": planned}
