"""The key of every job: a hash of everything that can change its result, down to the contents of pictures and weights.

Snakemake sees params, code and files. It does not see imported modules, and it does not remake a missing file between
two stages if the later files are there. So every rule has its key as a param, and a key covers the keys of the job's
inputs. Whatever changes, and whatever a killed run leaves, every job behind the change gets a new key. Files store the
key of the job that made them (:mod:`foundad.sealed`). Readers compare it with the key that they expect.

A key covers the sources that the stage imports, the versions of the packages that these import, the config that the job
reads, the keys of its inputs, and the contents of data and weights. It does not cover paths, devices, times, threads or
titles. Each stage states what its key covers (:class:`foundad.stages.base.Stage`). This module hashes it, and answers
the questions that several stages ask.
"""

import json
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

from foundad import discovery
from foundad.cells import Cell
from foundad.config.base import Strict, dump
from foundad.config.encoder import Encoder, HubWeights
from foundad.config.experiment import Experiment
from foundad.config.method import Method
from foundad.config.run import Run
from foundad.data.fingerprint import Contents, contents
from foundad.detection import registry
from foundad.encoders import modules_of
from foundad.encoders.identity import weights_file
from foundad.errors import UserError
from foundad.files import sha256
from foundad.hashes import ABSENT, Hashes
from foundad.key import Key
from foundad.metrics.registry import METRICS
from foundad.plan.project import Project
from foundad.provenance import config_hash, packages, source_hash, version
from foundad.report.shown import Shown
from foundad.stages.base import Sources, Stage
from foundad.stages.registry import STAGES

# Config keys for readers, on which no number depends: a change reruns only the reports.
DESCRIPTIVE = {"title", "licence", "source", "control", "draws", "download", "counts", "root"}
# Files that make up the page. No import leads to them.
PAGE = tuple(Path(__file__).parent.parent / "report/page" / name for name in ("template.html", "page.css", "page.js"))
# The functions that compute the metrics. Entries name them without an import.
COMPUTED = {name: metric.function for name, metric in METRICS.items()}
COMPUTING = tuple(sorted({metric.module for metric in METRICS.values()}))
# Modules that a fit imports but only some methods use.
PAIRS = "foundad.pairs.encoder"  # encodes images for a method that reads no bank
BANK = "foundad.config.bank"  # defines the keys of a bank; modules other than PAIRS read them as plain values
TRUTH = "foundad.detection.truth"  # for a method that is told the truth
MAPS = "foundad.metrics.maps"  # for image scores that come from a map
COMMIT = frozenset("0123456789abcdef")


class Keys:
    """The keys of all jobs of a run.

    Args:
        project: gives the config of the jobs, and the folder of earlier results and stored hashes.
        run: gives the keys of the run config that can change a number: precision, compile, versions.
    """

    def __init__(self, project: Project, run: Run) -> None:
        self.project, self.run = project, run
        self._known: dict[Stage, Key] = {}
        self._contents: dict[str, Contents] = {}
        self._encoders: dict[str, Any] = {}
        self._bases: dict[tuple[Any, ...], str] = {}

    def of(self, stage: str, *wildcards: str | int) -> Key:
        """The key of the job of ``stage`` with these wildcards, in the order of the stage's fields.

        Raises:
            UserError: one of the names does not exist.
        """
        return self.of_job(STAGES[stage](*wildcards))

    def of_cell(self, stage: str, cell: Cell) -> Key:
        """The key of the job of ``stage`` for ``cell``."""
        return self.of(stage, *vars(cell).values())

    def of_files(self, cell: Cell) -> tuple[str, str]:
        """The keys that the record and the metrics of ``cell`` must have, whether or not the run selects it.

        Raises:
            UserError: the config does not know its dataset, encoder or method.
        """
        return self.of_cell("fit", cell).own, self.of_cell("evaluate", cell).own

    def of_job(self, job: Stage) -> Key:
        """The key of ``job``. It covers the keys of the jobs that ``job`` rests on."""
        if job not in self._known:
            reads = job.rests_on(self.project)
            inputs = {name: self.of_job(self.project.job(read)).own for name, read in reads.items()}
            base = f"{job.name} {self._base(job)} {getattr(job, 'shots', '')} {getattr(job, 'seed', '')}"
            own = config_hash(base, inputs) + config_hash(inputs, base)[:6]
            self._known[job] = Key(own, inputs if job.checks else {})
        return self._known[job]

    def again(self, dataset: str, part: str) -> str:
        """The param of a manifest rule that makes Snakemake try a refused manifest again after its data has changed.

        A verdict is about the whole dataset, whichever part was mended. The value stays as it was at the last run if
        the manifest is sound, or if it was refused for the same contents. Then the job does not run again. The value is
        not part of a key, so keys are the same before and after a run.
        """
        from foundad.failures import failure_of

        try:
            stored = json.loads(self.project.results.again(dataset, part).read_text(encoding="utf-8"))
            asked, seen = str(stored["asked"]), stored["contents"]
        except (OSError, ValueError, KeyError, TypeError):
            asked, seen = "", None
        try:
            refused = failure_of(self.project.results.manifest(dataset, part)) is not None
        except OSError:
            refused = False
        except UserError:
            refused = True
        return self.contents(dataset).whole if refused and self.contents(dataset).whole != seen else asked

    # ------------------------------------------------------------------------------------------ hashes

    def _base(self, job: Stage) -> str:
        """Hash of the sources, versions and config of a job. Thousands of jobs share a few dozen such hashes."""
        place = (job.name, *(getattr(job, name) for name in vars(job) if name not in ("shots", "seed")))
        if place not in self._bases:
            self._bases[place] = self._hash(job.sources(self), job.settings(self))
        return self._bases[place]

    def _hash(self, sources: Sources, settings: Any) -> str:
        found = {name: self.run.versions.get(name, version(name)) for name in packages(*sources)}
        return f"{source_hash(*sources)}-{config_hash(found, settings)}"

    # ------------------------------------------------------------------------------------------ sources

    def with_layout(self, module: str, dataset: str) -> Sources:
        """``module`` and the layout of a dataset, to which no import leads."""
        return Sources((module, discovery.layouts()[self.project.dataset(dataset).layout]))

    def with_library(self, module: str, encoder: str) -> Sources:
        """``module`` and the libraries of an encoder and its parts, to which no import leads."""
        return Sources((module, *modules_of(self.project.encoder(encoder))))

    @staticmethod
    def with_metrics(module: str) -> Sources:
        """``module`` and the modules that compute the metrics, to which no import leads."""
        return Sources((module, *COMPUTING))

    def with_detector(self, module: str, method: Method, encoder: str) -> Sources:
        """``module``, the detector of a method, and those optional modules that this method uses.

        Optional modules are the encoder and the maker of pairs for a method that learns from images, the masks for a
        method that is told the truth, and the maps for a method whose image scores come from them.
        """
        modules = (module, registry.detectors()[method.detector].detector)
        unused = set() if "truth" in method.needs else {TRUTH}
        if method.score_size is None:
            unused.add(MAPS)
        if "images" in method.needs:
            return Sources((*self.with_library(module, encoder).modules, modules[1]), frozenset(unused))
        return Sources(modules, frozenset(unused | {PAIRS, BANK, "foundad.encoders"}))

    # ------------------------------------------------------------------------------------------ contents

    def contents(self, dataset: str) -> Contents:
        """The contents of the folder of ``dataset``. Only files that changed since the last call are read."""
        if dataset not in self._contents:
            hashes = Hashes(self.project.results.hashes(dataset))
            self._contents[dataset] = contents(self.project.located(dataset), hashes)
            hashes.save()
        return self._contents[dataset]

    def listed_draws(self, dataset: str) -> str | None:
        """The hash of the file of draws that the dataset names, or None if it names none."""
        settings = self.project.dataset(dataset)
        if not settings.draws:
            return None
        path = settings.expanded_draws
        return sha256(path) if path.is_file() else ABSENT

    @cached_property
    def page_files(self) -> list[str]:
        """Hashes of the files that make up the page."""
        return [sha256(path) for path in PAGE]

    # ------------------------------------------------------------------------------------------ config

    @property
    def arithmetic(self) -> list[Any]:
        """The settings of the run on which the last bits of tokens and models depend."""
        return [self.run.precision, self.run.compile]

    @staticmethod
    def dumped(model: Strict) -> dict[str, Any]:
        """All values of a config."""
        return dump(model)

    @staticmethod
    def resolved(model: Strict) -> dict[str, Any]:
        """The values of a config that can change a number."""
        return {key: value for key, value in dump(model).items() if key not in DESCRIPTIVE}

    def encoder(self, name: str) -> dict[str, Any]:
        """The config of an encoder that can change a token. Weights are given by their contents."""
        if name not in self._encoders:
            encoder = self.project.encoder(name)
            resolved = self.resolved(encoder) | {"weights": self._weights(encoder)}
            resolved["parts"] = [self.resolved(part) | {"weights": self._weights(part)} for part in encoder.parts]
            self._encoders[name] = resolved
        return self._encoders[name]

    def _weights(self, encoder: Encoder) -> str:
        weights = encoder.weights
        if weights == "random" or encoder.parts:
            return "random"
        if weights.sha256:
            return weights.sha256  # checked against the file at every load
        if isinstance(weights, HubWeights) and len(weights.revision) == 40 and set(weights.revision) <= COMMIT:
            return f"{weights.repository}/{weights.file}@{weights.revision}"
        path = weights_file(encoder)
        if path is None:
            return ABSENT
        hashes = Hashes(self.project.results.hashes(f"weights-{encoder.id}"))
        found = hashes.of([path], encoder.id)[path]
        hashes.save()
        return found

    def shown(self, experiment: Experiment, spec: Shown) -> Any:
        """Everything that a table or figure prints of an experiment: its settings, grids, titles, words and files."""
        titles = {
            kind: {
                name: [thing.title, getattr(thing, "label", ""), getattr(thing, "control", False)]
                for name, thing in self._things(experiment, kind)
            }
            for kind in ("datasets", "encoders", "methods")
        }
        words = self.words(getattr(spec, "metrics", ()))
        files = [sha256(path) for path in spec.files if path.is_file()]
        return [dump(spec), [dump(grid) for grid in experiment.cells], titles, words, files]

    @property
    def computed(self) -> dict[str, str]:
        """The function that computes each metric, by id."""
        return COMPUTED

    @staticmethod
    def words(metrics: Iterable[str] = METRICS) -> list[list[str | bool]]:
        """The words of ``metrics``, given as ids or as names that hold under every protocol."""
        named = set(metrics)
        return [metric.words for name, metric in METRICS.items() if {name, name.rpartition("/")[2]} & named]

    def printed(self, experiment: Experiment) -> Any:
        """Everything that the page prints of an experiment: its config, and the config of everything it names."""
        kinds = ("datasets", "encoders", "methods")
        things = {kind: [dump(thing) for _, thing in self._things(experiment, kind)] for kind in kinds}
        return [dump(experiment), things]

    def _things(self, experiment: Experiment, kind: str) -> list[tuple[str, Any]]:
        names = sorted({name for grid in experiment.cells for name in getattr(grid, kind)})
        return [(name, getattr(self.project.catalogue, kind)[name]) for name in names]
