"""Throughput on a GPU beside its floors: encoders, a training step, search, metrics, pairs, coreset; and peak memory.

Wall time of calls that are waited for, medians; floors are the bare matrix products or the bare network on the same device.
Compiled ways come last and are left out when the time is up.
"""

import os
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from features import photographs
from gpu_report import Absent, Found, Report
from training_step import our_step, products

from foundad.config.bank import Bank
from foundad.config.encoder import Encoder
from foundad.config.method import Search
from foundad.data.draws import Draw
from foundad.detection.shared.coreset import greedy_k_centre, project
from foundad.detection.shared.search import QUERIES, Memory
from foundad.device import Compute, Precision, float32_products, repeatable
from foundad.encoders import build_network
from foundad.encoders.base import FrozenEncoder
from foundad.encoders.extraction import encode_files
from foundad.metrics.category import Category, evaluate_category
from foundad.metrics.masks import find_defects
from foundad.pairs.encoder import PairEncoder, drawn_images
from foundad.plan.catalogue import load_one
from foundad.plan.cost import encoding

ENCODERS = ("dinov3-vits16", "dinov3-vitb16", "dinov3-vitl16")
PRECISIONS: tuple[Precision, ...] = ("float32", "tf32", "bfloat16")
SHAPES = ((8, 1024, 768), (8, 256, 384))
SECONDS, LEAST, MOST = 0.8, 3, 200  # of a timed way


class Speed:
    """All rows of the section."""

    def __init__(self, report: Report, device: str, quick: bool, folder: Path) -> None:
        self.report, self.device, self.quick = report, torch.device(device), quick
        self.cores = os.cpu_count() or 1
        self.batch, self.seconds = (2, 0.05) if quick else (32, SECONDS)
        self.networks: dict[str, torch.nn.Module] = {}
        self.paths = photographs(folder, 4 if quick else 64, 80 if quick else 700)

    def run(self) -> None:
        """Eager ways first."""
        names = ENCODERS[:1] if self.quick else ENCODERS
        settings = {name: self.encoder_settings(name) for name in names}
        for shape in ((2, 16, 64),) if self.quick else SHAPES:
            for precision in PRECISIONS:
                self.steps(shape, precision)
        for name in names:
            self.encoders(settings[name])
        for size in (1000,) if self.quick else (60_000, 500_000):
            for dtype in ("float32", "bfloat16"):
                self.report.run(f"search of 1024 tokens in {size} x 768, {dtype}", partial(self.search, size, dtype))
        self.report.run("metrics of 80 maps of 512 x 512", self.metrics)
        self.report.run("pairs a second", partial(self.pairs, settings[names[0]]))
        self.report.run("coreset of 10 % of 60000, CPU", self.coreset, may_wait=True)
        for precision in ("bfloat16", "tf32", "float32"):
            for shape in ((2, 16, 64),) if self.quick else SHAPES:
                what = f"training step {list(shape)}, {precision}, compiled"
                self.report.run(what, partial(self.step, shape, precision, True), may_wait=True)
            for name in names:
                what = f"encoder {name}, {precision}, compiled"
                self.report.run(what, partial(self.compiled_encoder, settings[name], precision), may_wait=True)

    def clocked(self, work: Callable[[], object]) -> tuple[float, float]:
        """Median seconds of ``work``, after one call that is not counted, and the most bytes allocated on the GPU."""
        self.wait()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
        work()
        self.wait()
        taken: list[float] = []
        while len(taken) < LEAST or (sum(taken) < self.seconds and len(taken) < MOST):
            started = time.perf_counter()
            work()
            self.wait()
            taken.append(time.perf_counter() - started)
        peak = torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else 0
        return statistics.median(taken), peak / 2**30

    def wait(self) -> None:
        """Until the GPU has done everything."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    # ------------------------------------------------------------------------------------------ encoders

    def encoder_settings(self, name: str) -> Encoder:
        """Random weights, at 512 px."""
        changes = {"weights": "random", "image_size": 64 if self.quick else 512}
        settings: Encoder = load_one(Path("config"), "encoders", name).model_copy(update=changes)
        return settings

    def encoders(self, settings: Encoder) -> None:
        """The bare network on batches that lie on the device, and from files on, in every precision."""

        def built() -> Found:
            network = self.networks[settings.id] = build_network(settings).to(self.device)
            return Found(f"{sum(p.numel() for p in network.parameters()) / 1e6:.0f} M parameters")

        if not self.report.run(f"encoder {settings.id}", built):
            return
        for precision in PRECISIONS[-1:] if self.quick else PRECISIONS:
            encoder = FrozenEncoder(settings, self.networks[settings.id], precision).to(self.device)
            rates: dict[str, float] = {}
            what = f"encoder {settings.id}, {precision}"
            self.report.run(what, partial(self.bare, encoder, rates))
            for threads in (2, self.cores) if precision == "bfloat16" and not self.quick else (self.cores,):
                label = f"{what}, from files, {threads} threads"
                self.report.run(label, partial(self.from_files, encoder, threads, rates))

    def bare(self, encoder: FrozenEncoder, rates: dict[str, float]) -> Found:
        """Images a second of batches that lie on the device."""
        settings = encoder.settings
        images = torch.randn(self.batch, 3, settings.image_size, settings.image_size, device=self.device)
        seconds, peak = self.clocked(lambda: encoder(images))
        rates["bare"] = self.batch / seconds
        blocks = settings.features
        # Blocks behind the one whose tokens are taken are not computed.
        share = (blocks.depth - blocks.layer + 1) / blocks.depth if blocks.kind == "blocks" else 1.0
        tera = rates["bare"] * encoding(settings) * share / 1e12
        text = f"{rates['bare']:.0f} images/s, {tera:.0f} TFLOP/s, {peak:.1f} GiB"
        return Found(text, numbers={"images": rates["bare"], "tflops": tera, "gib": peak})

    def from_files(self, encoder: FrozenEncoder, threads: int, rates: dict[str, float]) -> Found:
        """Images a second of the stage's own way: decoding, resizing, encoding, back to the host."""
        wanted = round(min(rates.get("bare", 100), 100 * threads))  # about a second of work
        wanted = len(self.paths) if self.quick else max(len(self.paths), wanted)
        paths = (self.paths * (wanted // len(self.paths) + 1))[:wanted]
        compute = Compute(str(self.device), threads, self.batch)
        list(encode_files(encoder, paths[: 2 * self.batch], compute))
        started = time.perf_counter()
        for _ in encode_files(encoder, paths, compute):
            pass
        rate = len(paths) / (time.perf_counter() - started)
        share = rate / rates["bare"]
        return Found(f"{rate:.0f} images/s, {share:.0%} of the bare network", numbers={"images": rate, "share": share})

    def compiled_encoder(self, settings: Encoder, precision: Precision) -> Found:
        """As :meth:`bare`, through torch.compile, with the seconds of the first call."""
        self.needs_gpu()
        encoder = FrozenEncoder(settings, self.networks[settings.id], precision, True).to(self.device)
        rates: dict[str, float] = {}
        started = time.perf_counter()
        found = self.bare(encoder, rates)
        first = time.perf_counter() - started
        return Found(f"{found.text}, {first:.0f} s with compiling", numbers=found.numbers | {"first": first})

    def needs_gpu(self) -> None:
        """Leave a row out where there is none."""
        torch._dynamo.reset()
        if self.device.type != "cuda":
            raise Absent("of a GPU alone")

    # ------------------------------------------------------------------------------------------ training

    def steps(self, shape: tuple[int, int, int], precision: Precision) -> None:
        """A training step as the trainer does it, without its equal bits, as a graph, and its bare products."""
        what = f"training step {list(shape)}, {precision}"
        self.report.run(what, partial(self.step, shape, precision))
        self.report.run(f"{what}, sums in any order", partial(self.step, shape, precision, ordered=False))
        self.report.run(f"{what}, CUDA graph", partial(self.step, shape, precision, graph=True))
        self.report.run(f"{what}, bare products", partial(self.floor, shape, precision))

    def step(
        self,
        shape: tuple[int, int, int],
        precision: Precision,
        fast: bool = False,
        graph: bool = False,
        ordered: bool = True,
    ) -> Found:
        """Milliseconds of a step."""
        if fast or graph:
            self.needs_gpu()
        target = torch.randn(*shape, device=self.device)
        inputs = target + 0.1 * torch.randn_like(target)
        noise = torch.Generator(self.device).manual_seed(1)
        step = our_step(target, inputs, precision, fast, noise)
        started = time.perf_counter()
        with float32_products(self.device, precision), repeatable(self.device) if ordered else nullcontext():
            seconds, peak = self.clocked(_captured(step, noise) if graph else step)
        note = f", {time.perf_counter() - started:.0f} s with compiling" if fast else ""
        text = f"{1e3 * seconds:.3g} ms, {peak:.2f} GiB{note}"
        return Found(text, numbers={"milliseconds": 1e3 * seconds, "gib": peak})

    def floor(self, shape: tuple[int, int, int], precision: Precision) -> Found:
        """Milliseconds of all matrix products of a step."""
        dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        run, operations = products(shape, dtype, str(self.device))
        with float32_products(self.device, precision):
            seconds, _ = self.clocked(run)
        tera = operations / seconds / 1e12
        text = f"{1e3 * seconds:.3g} ms, {tera:.0f} TFLOP/s"
        return Found(text, numbers={"milliseconds": 1e3 * seconds, "tflops": tera})

    # ------------------------------------------------------------------------------------------ the rest

    def search(self, size: int, dtype: str) -> Found:
        """Milliseconds of a search of one image beside the bare product."""
        vectors, queries = (torch.randn(count, 768, device=self.device) for count in (size, QUERIES))
        settings = Search.model_validate({"backend": "torch", "dtype": dtype})
        memory = Memory(vectors.cpu().numpy(), settings, str(self.device))
        with float32_products(self.device, "float32"):
            factors = [part.to(getattr(torch, dtype)) for part in (queries, vectors)]
            del vectors
            floor, _ = self.clocked(lambda: factors[0] @ factors[1].T)
            factors.clear()
        asked = queries.cpu().numpy()
        seconds, peak = self.clocked(lambda: memory.nearest(asked))
        text = f"{1e3 * seconds:.3g} ms, bare product {1e3 * floor:.3g} ms, {peak:.2f} GiB"
        return Found(text, numbers={"milliseconds": 1e3 * seconds, "floor": 1e3 * floor, "gib": peak})

    def metrics(self) -> Found:
        """Seconds of all metrics of a category by torch on the device and by numpy."""
        count, size = (4, 64) if self.quick else (80, 512)
        generator = np.random.default_rng(0)
        labels = np.arange(count) % 2
        patches = generator.normal(size=(count, 32, 32)).astype(np.float32)
        mask = np.zeros((size, size), np.uint8)
        mask[: size // 4, : size // 8] = 1
        defects = find_defects((mask if label else None for label in labels), (size, size))

        def evaluated(device: str) -> object:
            return evaluate_category(Category(patches.max((1, 2)), labels, patches, defects, device=device))

        ours, peak = self.clocked(lambda: evaluated("cpu:0" if self.device.type == "cpu" else str(self.device)))
        numpy, _ = self.clocked(lambda: evaluated("cpu"))
        return Found(f"{ours:.3g} s, numpy {numpy:.3g} s, {peak:.2f} GiB", numbers={"seconds": ours, "numpy": numpy})

    def pairs(self, settings: Encoder) -> Found:
        """Pairs a second whole, of decoded pictures and synthesis alone, and of the encoder alone."""
        count = 2 if self.quick else 16
        paths = [str(path) for path in self.paths[:4]]
        draw = Draw("bench", 4, 0, ["all"] * 4, paths, paths, [""] * 4)
        maker = PairEncoder(
            draw, drawn_images(draw, Path()), Bank(), settings, Compute(str(self.device), precision="bfloat16")
        )
        made = partial(maker.pairs, [n % 4 for n in range(count)], range(count), [True] * count)
        whole, _ = self.clocked(made)
        empty = np.empty((2 * count, settings.grid**2, settings.channels), np.float16)
        with patch.object(maker, "_encoded", lambda images, names: {"patch": empty}):
            pictures, _ = self.clocked(made)
        images = torch.randn(2 * count, 3, settings.image_size, settings.image_size, device=self.device)
        network, _ = self.clocked(lambda: maker.encoder(images))
        rates = {"whole": count / whole, "pictures": count / pictures, "encoder": count / network}
        text = ", ".join(f"{name} {rate:.0f}/s" for name, rate in rates.items())
        return Found(f"{text} ({settings.id}, bfloat16, pictures by one thread)", numbers=rates)

    def coreset(self) -> Found:
        """Seconds of projection and selection, which are numpy's."""
        size = 2000 if self.quick else 60_000
        vectors = np.random.default_rng(0).standard_normal((size, 768), np.float32)
        started = time.perf_counter()
        greedy_k_centre(project(vectors, 128, 0), size // 10)
        seconds = time.perf_counter() - started
        return Found(f"{seconds:.1f} s", numbers={"seconds": seconds})


def _captured(step: Callable[[], None], noise: torch.Generator) -> Callable[[], None]:
    """``step`` as a CUDA graph, its random numbers from ``noise``."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(noise)
    with torch.cuda.graph(graph):
        step()
    replay: Callable[[], None] = graph.replay
    return replay
