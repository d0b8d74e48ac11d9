"""The key of every job: a hash of all that can change its result, back to the contents of pictures and weights.

Snakemake sees params, code and files. It does not see imported modules, and a missing file between two stages counts as not
needed. So every rule has its key as a param, and a key holds the keys of what the job reads: whatever changed, and whatever a
killed run left, every job behind the change has another key. Files carry the key that made them (:mod:`foundad.sealed`), and
readers compare.

In a key: the sources that the stage really imports, the versions of the packages these import, the config it reads, the keys
of its inputs, the contents of data and weights. Not in it: paths, devices, times, threads, titles.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from foundad import config
from foundad.data.fingerprint import Contents, contents
from foundad.data.layouts import READERS
from foundad.detection import registry
from foundad.encoders.identity import weights_file
from foundad.errors import UserError
from foundad.files import sha256
from foundad.hashes import ABSENT, Hashes
from foundad.key import Key
from foundad.paths import WHOLE, Cell, Results
from foundad.plan.catalogue import Catalogue, nearest
from foundad.provenance import config_hash, packages, reached, source_hash, version
from foundad.report.shown import Shown

# What people read and no number depends on: changing it reruns reports alone.
DESCRIPTIVE = {"title", "licence", "source", "control", "draws", "download", "counts", "root"}
# Files that no import leads to: the page is made of them.
PAGE = tuple(Path(__file__).parent.parent / "report/page" / name for name in ("template.html", "page.css", "page.js"))
LIBRARIES = {name: f"foundad.encoders.{name}_encoder" for name in ("timm", "open_clip", "transformers")}
LIBRARIES["concatenation"] = "foundad.encoders.concatenation"
LAYOUTS = frozenset(read.__module__ for read in READERS.values())
COMMIT = frozenset("0123456789abcdef")


def bank_id(method: config.Method) -> str:
    """Names the bank a method reads: methods with equal ``bank`` sections share one."""
    return config_hash(config.dump(method.bank))[:8]


class Keys:
    """The keys of all jobs of a run.

    Args:
        catalogue: every dataset, encoder, method and experiment.
        results: where earlier results lie, and the memory of hashes.
        run: the run's keys that can change a number: precision, compile, versions.
        experiments: those that run; read by the stages that gather and report.
    """

    def __init__(
        self, catalogue: Catalogue, results: Results, run: config.Run, experiments: Iterable[config.Experiment] = ()
    ) -> None:
        self.catalogue, self.results, self.run = catalogue, results, run
        self.experiments = list(experiments)
        self._known: dict[tuple[str, ...], Key] = {}
        self._contents: dict[str, Contents] = {}
        self._bank_ids: dict[str, str] = {}
        self._encoders: dict[str, Any] = {}
        self._bases: dict[tuple[str, ...], str] = {}

    def of(self, stage: str, *parts: object) -> Key:
        """The key of the job of ``stage`` with these wildcards.

        textures (); manifest (dataset, part); draw (dataset, shots, seed); features (dataset, encoder or encoder@view); bank
        (dataset, encoder, shots, seed, bank id); fit, evaluate, observe, efficiency (dataset, encoder, method, shots, seed);
        overview (dataset); collect, report, status (); tables, figures (experiment, name).

        Raises:
            UserError: one of the names does not exist.
        """
        place = (stage, *map(str, parts))
        if place not in self._known:
            make: Callable[..., Key] = getattr(self, f"_{stage}")
            self._known[place] = make(*place[1:])
        return self._known[place]

    def of_cell(self, stage: str, cell: Cell) -> Key:
        """The key of a stage of ``cell``."""
        return self.of(stage, cell.dataset, cell.encoder, cell.method, cell.shots, cell.seed)

    def contents(self, dataset: str) -> Contents:
        """What lies in the folder of ``dataset``; files are read where they changed since the last call."""
        if dataset not in self._contents:
            hashes = Hashes(self.results.hashes(dataset))
            self._contents[dataset] = contents(self.results.located(self.dataset(dataset)), hashes)
            hashes.save()
        return self._contents[dataset]

    # ------------------------------------------------------------------------------------------ data

    def _textures(self) -> Key:
        return self._joined("textures", ("foundad.data.textures",))

    def _manifest(self, name: str, part: str) -> Key:
        dataset = self.dataset(name)
        settings = self._resolved(dataset)
        settings.pop("top_k")
        if part == WHOLE:
            settings["counts"] = config.dump(dataset)["counts"]
        elif part != "truth" and dataset.strict:
            settings.pop("mask_threshold")
        found = self.of(dataset.generator).own if dataset.generator else self.contents(name).of(part)
        reader = READERS[dataset.layout].__module__
        others = LAYOUTS - reached(reader)
        return self._joined("manifest", ("foundad.data.verify", reader), [settings, part, found], without=others)

    def again(self, name: str, part: str) -> str:
        """What makes a refused manifest be tried again: a verdict is about all of a dataset, whatever part was mended.

        Empty where the manifest is sound or not there; no part of a key, so that keys are the same before and after a run.
        """
        from foundad.failures import failure_of

        try:
            refused = failure_of(self.results.manifest(name, part)) is not None
        except OSError:
            refused = False
        except UserError:
            refused = True
        return self.contents(name).whole if refused else ""

    def _draw(self, name: str, shots: str, seed: str) -> Key:
        dataset = self.dataset(name)
        listed: str | None = dataset.draws
        if listed:
            path = dataset.expanded_draws
            listed = sha256(path) if path.is_file() else ABSENT
        inputs = {"manifest": self.of("manifest", name, "train").own}
        return self._joined("draw", ("foundad.data.draws",), [listed, shots, seed], inputs)

    # ------------------------------------------------------------------------------------------ encoders

    def _features(self, dataset: str, encoder: str) -> Key:
        name, _, query = encoder.partition("@")
        inputs = {"manifest": self.of("manifest", dataset, "test").own}
        base = self._base("foundad.encoders.extraction", self._encoder(name), self._arithmetic, query, library=name)
        return self._chained(base, inputs)

    def _bank(self, dataset: str, encoder: str, shots: str, seed: str, bank: str) -> Key:
        inputs = {"draw": self.of("draw", dataset, shots, seed).own}
        base = self._base(
            "foundad.method.pairs.encoder", self._encoder(encoder), self._banks[bank], self._arithmetic, library=encoder
        )
        return self._chained(base, inputs)

    def _encoder(self, name: str) -> dict[str, Any]:
        """The config of an encoder that can change a token, its weights by their contents."""
        if name not in self._encoders:
            encoder = self.encoder(name)
            resolved = self._resolved(encoder) | {"weights": self._weights(encoder)}
            resolved["parts"] = [self._resolved(part) | {"weights": self._weights(part)} for part in encoder.parts]
            self._encoders[name] = resolved
        return self._encoders[name]

    def _weights(self, encoder: config.Encoder) -> str:
        weights = encoder.weights
        if weights == "random" or encoder.parts:
            return "random"
        if weights.sha256:
            return weights.sha256  # compared with the file whenever it is loaded
        if isinstance(weights, config.HubWeights) and len(weights.revision) == 40 and set(weights.revision) <= COMMIT:
            return f"{weights.repository}/{weights.file}@{weights.revision}"
        path = weights_file(encoder)
        if path is None:
            return ABSENT
        hashes = Hashes(self.results.hashes(f"weights-{encoder.id}"))
        found = hashes.of([path], encoder.id)[path]
        hashes.save()
        return found

    # ------------------------------------------------------------------------------------------ cells

    def _fit(self, dataset: str, encoder: str, name: str, shots: str, seed: str) -> Key:
        method = self.method(name)
        inputs = {"manifest": self.of("manifest", dataset, "truth" if "truth" in method.needs else "test").own}
        if "features" in method.needs:
            for view in ("", *method.bank.queries):
                found = f"{encoder}@{view}" if view else encoder
                inputs[f"features@{view}"] = self.of("features", dataset, found).own
        if "bank" in method.needs:
            inputs["bank"] = self.of("bank", dataset, encoder, shots, seed, self.bank_id(method)).own
        if "images" in method.needs:
            inputs["draw"] = self.of("draw", dataset, shots, seed).own
        place = ("fit", dataset, encoder, name)
        if place not in self._bases:
            top_k = method.top_k or self.dataset(dataset).top_k
            settings = [top_k, self._encoder(encoder), self._resolved(method), *self._arithmetic]
            self._bases[place] = self._hash(*self._of_fit(encoder, method), settings)
        return self._chained(f"{self._bases[place]} {shots} {seed}", inputs)

    def _of_fit(self, encoder: str, method: config.Method) -> tuple[tuple[str, ...], frozenset[str]]:
        """Modules of the stage, and those that this method does not use."""
        modules = ("foundad.detection.fitting", registry.detectors()[method.detector][0])
        if "images" in method.needs:
            return modules, self._other_libraries(encoder)
        return modules, frozenset({"foundad.method.pairs.encoder", "foundad.encoders", *LIBRARIES.values()})

    def _evaluate(self, dataset: str, encoder: str, method: str, shots: str, seed: str) -> Key:
        fit = self.of("fit", dataset, encoder, method, shots, seed).own
        inputs = {"manifest": self.of("manifest", dataset, "truth").own, "scores": fit}
        settings = [self.encoder(encoder).image_size, self.method(method).smoothing]
        return self._chained(self._base("foundad.metrics.evaluation", *settings), inputs)

    def _observe(self, dataset: str, encoder: str, method: str, shots: str, seed: str) -> Key:
        return self._measured("foundad.method.observation", Cell(dataset, encoder, method, int(shots), int(seed)))

    def _efficiency(self, dataset: str, encoder: str, method: str, shots: str, seed: str) -> Key:
        return self._measured("foundad.detection.efficiency", Cell(dataset, encoder, method, int(shots), int(seed)))

    def _measured(self, module: str, cell: Cell) -> Key:
        fit = self.of_cell("fit", cell).own
        inputs = {"manifest": self.of("manifest", cell.dataset, "test").own, "model": fit, "record": fit}
        base = self._base(module, self._encoder(cell.encoder), self.run.precision, library=cell.encoder)
        return self._chained(base, inputs)

    # ------------------------------------------------------------------------------------------ reports

    def _collect(self) -> Key:
        cells = dict.fromkeys(cell for experiment in self.experiments for cell in self.catalogue.cells(experiment))
        found = [f"{cell} {self.of_cell('evaluate', cell).own}" for cell in cells]
        return self._joined("collect", ("foundad.report.collect",), sorted(found))

    def _status(self) -> Key:
        return self._joined("status", ("foundad.status",), None, {"runs": self.of("collect").own})

    def _overview(self, name: str) -> Key:
        inputs = {"manifest": self.of("manifest", name, WHOLE).own}
        return self._joined("overview", ("foundad.report.overview",), self.dataset(name).title, inputs, LAYOUTS)

    def _tables(self, experiment: str, name: str) -> Key:
        settings = self.catalogue.experiments[experiment]
        return self._shown("tables", settings, settings.tables[name])

    def _figures(self, experiment: str, name: str) -> Key:
        settings = self.catalogue.experiments[experiment]
        return self._shown("figures", settings, settings.figures[name])

    def _shown(self, stage: str, settings: config.Experiment, shown: Shown) -> Key:
        """Of one table or figure: the source of its own kind, what it says that it reads, and what it prints."""
        reads = shown.reads(self.catalogue.cells(settings))
        truths = {cell.dataset: self.of("manifest", cell.dataset, "truth").own for cell in reads.get("fit", ())}
        files = [sha256(path) for path in shown.files if path.is_file()]
        found = [truths, files, {name: self._all(name, cells) for name, cells in reads.items()}]
        titles = {
            kind: {
                name: [thing.title, getattr(thing, "label", ""), getattr(thing, "control", False)]
                for name, thing in getattr(self.catalogue, kind).items()
                if name in _named(settings, kind)
            }
            for kind in ("datasets", "encoders", "methods")
        }
        notes = {name: self.of("manifest", name, WHOLE).own for name in sorted(_named(settings, "datasets"))}
        grids = [config.dump(grid) for grid in settings.cells]
        modules = (type(shown).__module__,)
        return self._joined(stage, modules, [config.dump(shown), grids, titles, notes, found], without=LAYOUTS)

    def _report(self) -> Key:
        shown = [self._page(experiment) for experiment in self.experiments]
        files = [sha256(path) for path in PAGE]
        inputs = {"metrics": self.of("collect").own}
        return self._joined("report", ("foundad.report.page",), [files, shown], inputs, LAYOUTS)

    def _page(self, experiment: config.Experiment) -> Any:
        """What the page prints of an experiment: itself, and all of what it names."""
        things = {
            kind: [config.dump(getattr(self.catalogue, kind)[name]) for name in sorted(_named(experiment, kind))]
            for kind in ("datasets", "encoders", "methods")
        }
        cells = self.catalogue.cells(experiment)
        # What tables and figures show and no metric rests on.
        spent = {
            f"{name} {stage}": self._all(stage, chosen)
            for name, shown in [*experiment.tables.items(), *experiment.figures.items()]
            for stage, chosen in shown.reads(cells).items()
            if stage not in ("evaluate", "fit")
        }
        return [config.dump(experiment), things, spent]

    def _all(self, stage: str, cells: Iterable[Cell]) -> list[str]:
        return [self.of_cell(stage, cell).own for cell in cells]

    # ------------------------------------------------------------------------------------------ hashes

    def _joined(
        self,
        stage: str,
        modules: tuple[str, ...],
        settings: Any = None,
        inputs: Mapping[str, str] | None = None,
        without: frozenset[str] = frozenset(),
    ) -> Key:
        return self._chained(f"{stage} {self._hash(modules, without, settings)}", inputs or {})

    def _base(self, module: str, *settings: Any, library: str | None = None) -> str:
        """Hash of sources, versions and config of a stage; thousands of jobs share a few dozen of them."""
        place = (module, library or "", config_hash(*settings))
        if place not in self._bases:
            without = frozenset() if library is None else self._other_libraries(library)
            modules = (module,) if library is None else (module, *self._libraries(library))
            self._bases[place] = self._hash(modules, without, settings)
        return self._bases[place]

    def _hash(self, modules: tuple[str, ...], without: frozenset[str], settings: Any) -> str:
        found = {name: self.run.versions.get(name, version(name)) for name in packages(modules, without)}
        return f"{source_hash(modules, without)}-{config_hash(found, settings)}"

    def _chained(self, base: str, inputs: Mapping[str, str]) -> Key:
        return Key(config_hash(base, inputs) + config_hash(inputs, base)[:6], dict(inputs))

    def _libraries(self, encoder: str) -> tuple[str, ...]:
        found = self.encoder(encoder)
        return tuple(sorted({LIBRARIES[part.library] for part in (found, *found.parts)}))

    def _other_libraries(self, encoder: str) -> frozenset[str]:
        return frozenset(LIBRARIES.values()) - frozenset(self._libraries(encoder))

    def bank_id(self, method: config.Method) -> str:
        """:func:`bank_id`, remembered."""
        if method.id not in self._bank_ids:
            self._bank_ids[method.id] = bank_id(method)
        return self._bank_ids[method.id]

    @cached_property
    def _banks(self) -> dict[str, Any]:
        """The resolved ``bank`` sections by their ids."""
        return {bank_id(method): config.dump(method.bank) for method in self.catalogue.methods.values()}

    @property
    def _arithmetic(self) -> list[Any]:
        """What the last bits of tokens and models depend on, beside the sources and the config of a thing."""
        return [self.run.precision, self.run.compile]

    def _resolved(self, model: config.Strict) -> dict[str, Any]:
        return {key: value for key, value in config.dump(model).items() if key not in DESCRIPTIVE}

    # ------------------------------------------------------------------------------------------ lookups

    def dataset(self, name: str) -> config.Dataset:
        """The dataset, or a UserError that names the nearest."""
        return self._lookup("datasets", name)

    def encoder(self, name: str) -> config.Encoder:
        """The encoder, or a UserError that names the nearest."""
        return self._lookup("encoders", name)

    def method(self, name: str) -> config.Method:
        """The method, or a UserError that names the nearest."""
        return self._lookup("methods", name)

    def _lookup(self, kind: str, name: str) -> Any:
        known = getattr(self.catalogue, kind)
        if name not in known:
            raise UserError(f"config/{kind}: there is no '{name}'{nearest(name, known)}")
        return known[name]


def _named(experiment: config.Experiment, kind: str) -> set[str]:
    return {name for grid in experiment.cells for name in getattr(grid, kind)}
