"""What the benchmarks of whole cells share: a folder with its own config and results, and stages run by their commands.

Stages run in this process, so that the encoder's images can be counted and both sides pay for the imports only once.
"""

import contextlib
import io
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import timm  # noqa: F401 - imported before anything is timed
import torch
import yaml
from harness import medians

from foundad.cells import Cell
from foundad.cli import main
from foundad.data.draws import read_draw  # noqa: F401 - imported before anything is timed
from foundad.data.images import load_image
from foundad.data.location import image_root
from foundad.data.manifest import read_manifest
from foundad.device import Compute, Precision
from foundad.encoders import build_encoder
from foundad.encoders.base import FrozenEncoder, to_input
from foundad.encoders.extraction import encode
from foundad.paths import Results
from foundad.plan.catalogue import load_one


class Workshop:
    """Config and results below ``folder``; runs the stages of cells by name.

    Attributes:
        encoded: images that the encoder has seen so far.
        key: of all jobs; empty: each finds its own, which takes a second.
    """

    def __init__(
        self, folder: Path, threads: int = 1, precision: Precision = "float32", device: str = "cpu", key: str = ""
    ) -> None:
        self.folder, self.threads, self.precision, self.device, self.key = folder, threads, precision, device, key
        self.config, self.results = folder / "config", Results(folder / "results")
        shutil.copytree("config", self.config)
        self.encoded = 0
        # With one thread, processor time: other work on the machine disturbs it less.
        self.clock = time.process_time if threads == 1 else time.perf_counter

    def add_method(self, name: str, **values: Any) -> str:
        """Write a method file; returns its name."""
        text = yaml.safe_dump({"title": name, **values})
        (self.config / "methods" / f"{name}.yaml").write_text(text)
        return name

    def stage(self, *arguments: object) -> float:
        """Run ``foundad ARGUMENTS``; returns the seconds."""
        command = [*map(str, arguments), "--config", str(self.config), "--results", str(self.results.root)]
        if arguments[0] in ("features", "bank", "fit"):
            command += ["--threads", str(self.threads), "--device", self.device, "--precision", self.precision]
        command += ["--key", self.key] if self.key else []
        started = self.clock()
        with contextlib.redirect_stderr(io.StringIO()) as said:
            code = main(command)
        if code:
            raise SystemExit(said.getvalue())
        return self.clock() - started

    @contextlib.contextmanager
    def counting(self) -> Iterator[None]:
        """Count the images that go through any encoder."""
        named = FrozenEncoder.named

        def counted(encoder: FrozenEncoder, images: torch.Tensor, names: Sequence[str] = ("patch",)) -> Any:
            self.encoded += len(images)
            return named(encoder, images, names)

        with patch.object(FrozenEncoder, "named", counted):
            yield

    def prepare(self, dataset: str, shots: int, seeds: range) -> None:
        """Make the data, manifest and draws that both sides need."""
        if dataset == "textures":
            self.stage("textures")
        self.stage("manifest", dataset)
        for seed in seeds:
            self.stage("draw", dataset, "--shots", shots, "--seed", seed)

    def cell(self, stage: str, cell: Cell) -> float:
        """Run the stage ``fit`` or ``evaluate`` of a cell; returns the seconds, without those of masks that are missing."""
        side = load_one(self.config, "encoders", cell.encoder).image_size
        if stage == "evaluate" and not self.results.masks(cell.dataset, side).exists():
            self.stage("masks", cell.dataset, "--side", side)
        return self.stage(stage, cell.dataset, cell.encoder, cell.method, "--shots", cell.shots, "--seed", cell.seed)

    def bank(self, cell: Cell, array: str = "patch") -> float:
        """Make one array of the bank of the cell's method; returns the seconds."""
        place = (cell.dataset, cell.encoder, cell.method, "--shots", cell.shots, "--seed", cell.seed)
        return self.stage("bank", *place, "--array", array)

    def encode_anew(self, cell: Cell, images: int | None = None) -> float:
        """Seconds to encode the test images of ``cell`` one by one, as if it stood alone; its ``fit`` scores them.

        Measured on the first ``images`` (None = all) and scaled to all.
        """
        dataset = self.results.located(load_one(self.config, "datasets", cell.dataset))
        rows, root = read_manifest(self.results.manifest(cell.dataset)).test, image_root(dataset)
        part = rows[:images]
        settings = load_one(self.config, "encoders", cell.encoder)
        torch.set_num_threads(self.threads)
        started = self.clock()
        encoder = build_encoder(settings, Compute(precision=self.precision))
        built = self.clock()
        for row in part:
            encode(encoder, to_input(load_image(root / row.image_path), settings)[None].copy())
        return built - started + (self.clock() - built) * len(rows) / len(part)

    def spared_images(self, cell: Cell) -> float:
        """Expected number of inputs that a fit of ``cell`` with fresh pairs need not encode: they show no anomaly."""
        training = load_one(self.config, "methods", cell.method).training
        return training.steps * training.batch_size * (1 - training.synthetic_probability)

    def encoder_seconds(self, encoder_id: str, batch_size: int) -> float:
        """Seconds per image of the bare encoder, in batches of ``batch_size``."""
        settings = load_one(self.config, "encoders", encoder_id)
        torch.set_num_threads(self.threads)
        encoder = build_encoder(settings, Compute(precision=self.precision))
        pixels = np.zeros((batch_size, settings.image_size, settings.image_size, 3), np.uint8)
        ways = {"encoder": lambda: encode(encoder, pixels)}
        return medians(ways, rounds=5, clock=self.clock)["encoder"] / batch_size

    def metrics(self, cell: Cell) -> dict[str, float]:
        """Mean over categories of every metric of the cell."""
        table = pd.read_parquet(self.results.cell(cell) / "metrics.parquet")
        return dict(table.groupby("metric")["value"].mean())
