"""Estimates what each job costs from the config, before it runs: operations, seconds, memory and bytes on disk.

Counts are exact if the dataset's YAML or manifest lists its images. Times are operations divided by one assumed rate.
They are right to within a factor of two or three. Nothing here reads an image or builds a model.
"""

from contextlib import suppress
from functools import cached_property
from math import ceil
from typing import Any, NamedTuple

from foundad.config.encoder import Encoder, Stages
from foundad.config.method import Method
from foundad.config.run import Run
from foundad.errors import UserError
from foundad.method.settings import Projector, Settings
from foundad.paths import PATCH
from foundad.plan.project import Project
from foundad.stages.bank import Bank
from foundad.stages.base import CellStage, Stage
from foundad.stages.features import Features
from foundad.stages.fit import Fit
from foundad.stages.masks import Masks

# Assumed operations per second of a GPU: a third of the 67 TFLOP/s of an H100 in float32 (NVIDIA's data sheet).
GPU_RATE = 20e12
# Assumed operations per second of one CPU core: a training step of the projector reaches them in float32
# (docs/performance.md).
CORE_RATE = 60e9
# Operations per pixel of a convolutional encoder. The value is that of WideResNet-50-2, the largest here: 22.8 GFLOP at
# 224 px (torchvision). Its stage of stride s has 64 s channels. The cost of a narrower encoder falls with their square.
CONVOLUTIONAL = 22.8e9 / 224**2
CHANNELS = 64
ASSUMED_TEST_IMAGES = 100  # per category, if neither the YAML nor a manifest gives the number
BACKWARD = 3  # operations of a training step, in forward passes
FLOAT32, FLOAT16 = 4, 2  # bytes
ROW, MODEL = 40, 3000  # bytes besides the numbers: names of one image, settings of one model
RUNS, RUN = 0.5, 16  # runs of defective pixels per test image and pixel of its side; bytes of one
MASK = 0.005  # seconds to decode the mask of one test image and to find its defects
DECODING = 0.02  # seconds to decode and resize one picture on one core
PIXEL = 20e-9  # seconds to evaluate one pixel under both protocols: upsampling, sorting and ranking
MEASURED_PASSES = 600  # images that observe or efficiency encode
# Seconds until a job starts its work: with torch, timm and CUDA; with torch and timm; with numpy; and in a fork of a
# process that has imported everything (foundad/warm). A fork that uses CUDA starts it itself: the first case.
CUDA_START, HEAVY_START, LIGHT_START, WARM_START = 8.0, 4.0, 1.0, 0.4
PROCESS_MB = 1500  # megabytes of a process with torch


class Images(NamedTuple):
    """Numbers of categories and test images of a dataset; ``assumed`` if the number of images is not known."""

    categories: int
    test: int
    assumed: bool


class Costs:
    """The estimated costs of the jobs of one run.

    Args:
        project: the datasets, encoders and methods that the jobs name.
        run: gives the device, the precision and the threads of each stage.
    """

    def __init__(self, project: Project, run: Run) -> None:
        self.project, self.run = project, run
        self._images: dict[str, Images] = {}

    @cached_property
    def on_gpu(self) -> bool:
        """Whether the run asks for a GPU by name. ``auto`` counts as a CPU: a cluster job must ask for a GPU."""
        return self.run.device.startswith("cuda")

    # ------------------------------------------------------------------------------------------ of a job

    def seconds(self, job: Stage) -> float:
        """Seconds of wall time of one job that runs alone, including its start."""
        start = WARM_START if self.run.warm else LIGHT_START
        if job.uses_gpu(self.project) and (self.on_gpu or not self.run.warm):
            start = CUDA_START if self.on_gpu else HEAVY_START
        return start + self.operations(job) / self.rate(job) + self._host_seconds(job)

    def rate(self, job: Stage) -> float:
        """Operations per second on the device of the job."""
        return GPU_RATE if self.on_gpu else CORE_RATE * job.threads(self.run)

    def operations(self, job: Stage) -> float:
        """Floating-point operations of a job on the device of the run."""
        if isinstance(job, Features | Bank):
            return self.encoded(job) * encoding(self.project.encoder(job.encoder))
        if isinstance(job, Fit):
            return self._fitting(job) + self.fresh_passes(job) * encoding(self.project.encoder(job.encoder))
        if job.name in ("observe", "efficiency"):
            assert isinstance(job, CellStage)
            return MEASURED_PASSES * encoding(self.project.encoder(job.encoder))
        return 0.0

    def disk(self, job: Stage) -> dict[str, int]:
        """Bytes of the large files that a job writes, by kind: features, banks, models, scores, masks."""
        if isinstance(job, Features):
            size = array_bytes(job.array, self.project.encoder(job.encoder))
            return {"features": self.images(job.dataset).test * (size + ROW)}
        if isinstance(job, Bank):
            return {"banks": self.passes(job) * (array_bytes(job.array, self.project.encoder(job.encoder)) + ROW)}
        if isinstance(job, Fit):
            return {"models": MODEL + self._model_bytes(job), "scores": self._score_bytes(job)}
        if isinstance(job, Masks):
            return {"masks": self.images(job.dataset).test * (ROW + round(RUNS * job.side) * RUN)}
        return {}

    def memory(self, job: Stage) -> int:
        """Megabytes that a job needs, rounded up generously."""
        if isinstance(job, Bank | Fit):
            banks = [job] if isinstance(job, Bank) else [self.project.job(read) for read in self._banks_of(job)]
            held = sum(sum(self.disk(bank).values()) for bank in banks)
            encoder = self.project.encoder(job.encoder)
            images = self.images(job.dataset)
            if isinstance(job, Fit) and "test set" in (method := self.project.method(job.method)).needs:
                return round(PROCESS_MB + method.held(self._together(job, method), encoder) / 1e6)
            category = images.test * token_bytes(encoder) / images.categories
            return round(PROCESS_MB + 3 * held / 1e6 + 4 * category / 1e6)
        if job.name == "evaluate":
            assert isinstance(job, CellStage)
            images = self.images(job.dataset)
            pixels = images.test / images.categories * self.project.encoder(job.encoder).image_size ** 2
            return round(PROCESS_MB / 2 + 30 * pixels / 1e6)
        return 2 * PROCESS_MB if "device" in job.options else PROCESS_MB

    # ------------------------------------------------------------------------------------------ counts

    def images(self, name: str) -> Images:
        """The numbers of categories and test images of a dataset."""
        if name not in self._images:
            self._images[name] = self._counted(name)
        return self._images[name]

    def encoded(self, job: Features | Bank) -> int:
        """Number of images that a job encodes: none if the job of the patch tokens encodes its array as well."""
        if job.array != PATCH and not self.run.compile:
            return 0
        return self.images(job.dataset).test if isinstance(job, Features) else self.passes(job)

    def passes(self, job: Bank) -> int:
        """Number of images that a bank is made of."""
        return self.project.bank(job.bank).passes(self.images(job.dataset).categories * job.shots)

    def fresh_passes(self, job: Fit) -> int:
        """Number of images that are encoded while a method trains."""
        method = self.project.method(job.method)
        if not isinstance(method, Settings) or method.training.pairs != "fresh":
            return 0
        drawn = self.images(job.dataset).categories * job.shots
        return method.passes(drawn, method.training.budget(drawn))

    def _counted(self, name: str) -> Images:
        dataset, manifest = self.project.dataset(name), self.project.results.manifest(name)
        with_split = [numbers for numbers in dataset.counts.values() if len(numbers) == 3]
        if with_split:
            return Images(len(with_split), sum(normal + defective for _, normal, defective in with_split), False)
        if manifest.is_file():
            from foundad.data.counts import counts_of
            from foundad.data.manifest import read_manifest

            with suppress(UserError):  # a refused or damaged manifest gives no counts
                counts = counts_of(read_manifest(manifest).rows)
                test = sum(normal + defective for _, normal, defective in counts.values())
                return Images(len(counts), test, False)
        categories = max(1, len(dataset.folders or ()))
        return Images(categories, categories * ASSUMED_TEST_IMAGES, True)

    def _banks_of(self, job: Fit) -> list[Any]:
        return [read for read in job.reads(self.project).values() if read.stage == "bank"]

    def _fitting(self, job: Fit) -> float:
        """Operations of fitting and scoring besides encoding.

        A method with a projector trains and applies it. Every other method says itself what it does.
        """
        method, encoder = self.project.method(job.method), self.project.encoder(job.encoder)
        images = self.images(job.dataset)
        drawn = images.categories * job.shots
        if isinstance(method, Settings):
            steps, batch = method.training.budget(drawn), method.training.batch_size
            return projection(method.projector, encoder) * (BACKWARD * steps * batch + images.test)
        return method.operations(drawn, images.test, images.categories, encoder)

    def _together(self, job: Fit, method: Method) -> int:
        """How many test images are scored together by a method that needs them."""
        images = self.images(job.dataset)
        return ceil(images.test / (images.categories if method.scope == "category" else 1))

    def _model_bytes(self, job: Fit) -> int:
        method, encoder = self.project.method(job.method), self.project.encoder(job.encoder)
        if isinstance(method, Settings):
            return parameters(method.projector, encoder) * FLOAT32
        if "bank" not in method.needs:
            return 0
        parts = self.images(job.dataset).categories if method.scope == "category" else 1
        drawn = self.images(job.dataset).categories * job.shots // parts
        numbers = method.numbers(drawn, encoder)
        return round(parts * (1 + len(method.bank.queries)) * numbers * FLOAT32)

    def _score_bytes(self, job: Fit) -> int:
        """One number per patch; for a control that is told the truth, one byte per pixel of the masks."""
        method, encoder = self.project.method(job.method), self.project.encoder(job.encoder)
        image = encoder.image_size**2 if "truth" in method.needs else encoder.grid**2 * FLOAT32
        return self.images(job.dataset).test * (image + 2 * FLOAT32)

    def _host_seconds(self, job: Stage) -> float:
        """Seconds of work on the CPU that no operation count covers: decoding and evaluation."""
        if isinstance(job, Features):
            return DECODING * self.encoded(job) / job.threads(self.run)
        if isinstance(job, Bank):
            return DECODING * self.encoded(job)
        if isinstance(job, Masks):
            return MASK * self.images(job.dataset).test
        if job.name == "evaluate":
            assert isinstance(job, CellStage)
            return PIXEL * self.images(job.dataset).test * self.project.encoder(job.encoder).image_size ** 2
        return 0.0


# ---------------------------------------------------------------------------------------------------- of an encoder


def encoding(encoder: Encoder) -> float:
    """Operations to encode one image.

    A transformer of N tokens and D channels takes 24 D^2 per token and block, and 4 N D more for the attention.
    """
    if encoder.parts:
        return sum(encoding(part) for part in encoder.parts)
    if isinstance(encoder.features, Stages):
        last = max(encoder.features.strides)
        channels = dict(zip(encoder.features.strides, encoder.features.channels or [], strict=False)).get(last)
        share = 1.0 if channels is None else (channels / (CHANNELS * last)) ** 2
        return CONVOLUTIONAL * share * encoder.image_size**2
    tokens, width = encoder.grid**2, encoder.channels
    return encoder.features.depth * tokens * (24 * width**2 + 4 * tokens * width)


def array_bytes(array: str, encoder: Encoder) -> int:
    """Bytes of a stored array of one image. A class token counts as one patch token."""
    return token_bytes(encoder) if array == PATCH else encoder.channels * FLOAT16


def token_bytes(encoder: Encoder) -> int:
    """Bytes of the stored patch tokens of one image."""
    return encoder.grid**2 * encoder.channels * FLOAT16


# ---------------------------------------------------------------------------------------------------- of a projector


def parameters(projector: Projector, encoder: Encoder) -> int:
    """Number of parameters of a projector of width w.

    A transformer has 12 w^2 + 13 w per block and an MLP 8 w^2 + 7 w, at an MLP ratio of 4. The layers at both ends come
    on top.
    """
    width = projector.width_for(encoder.channels)
    attention, rest = (4, 9) if projector.type == "vit" else (0, 3)
    block = (attention + 2 * projector.mlp_ratio) * width**2 + (rest + projector.mlp_ratio) * width
    return round(projector.depth * block) + 2 * encoder.channels * width


def projection(projector: Projector, encoder: Encoder) -> float:
    """Operations of one forward pass of a projector over the tokens of one image."""
    tokens, width = encoder.grid**2, projector.width_for(encoder.channels)
    attention = projector.depth * 4 * tokens**2 * width if projector.type == "vit" else 0
    return 2.0 * parameters(projector, encoder) * tokens + attention
