"""Gives a job the config of the datasets, encoders and methods that it names, and the paths of its files.

A single job reads only the few YAML files that it names. The plan has read all files already and passes them in as a
catalogue.
"""

import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, get_args

from foundad.cells import Cell
from foundad.config.bank import Bank, QueryView
from foundad.config.base import dump
from foundad.config.dataset import Dataset
from foundad.config.encoder import Encoder
from foundad.config.experiment import Experiment
from foundad.config.method import ARRAYS, Method
from foundad.config.run import Size
from foundad.errors import UserError
from foundad.names import nearest
from foundad.paths import AS_IS, PATCH, Results
from foundad.plan import shown
from foundad.plan.catalogue import DEMO, FOLDER, Catalogue, load_catalogue, load_one, validate, variant
from foundad.provenance import config_hash
from foundad.report.shown import Shown
from foundad.stages.base import Read, Stage
from foundad.stages.registry import STAGES


def bank_id(method: Method) -> str:
    """The id of the bank that a method reads. Methods with equal ``bank`` sections share a bank."""
    return config_hash(dump(method.bank))[:8]


class Project:
    """The config folder at the size of a run, and the paths of the results.

    Args:
        folder: the config folder; it holds datasets/, encoders/, methods/ and experiments/.
        size: size of the run.
        results: paths of all files of the run; None means the folder results.
        chosen: ids of the experiments of the run.
        catalogue: the content of the config folder, if it has been read.
    """

    def __init__(
        self,
        folder: Path = FOLDER,
        size: Size = DEMO,
        results: Results | None = None,
        chosen: Sequence[str] = (),
        catalogue: Catalogue | None = None,
    ) -> None:
        self.folder, self.size, self.results = folder, size, results or Results(Path("results"))
        self.chosen = list(chosen)
        self._things: dict[tuple[str, str], Any] = {}
        self._banks: dict[str, Bank] = {}
        self._bank_ids: dict[str, str] = {}
        if catalogue is not None:
            self.catalogue = catalogue

    @cached_property
    def catalogue(self) -> Catalogue:
        """All datasets, encoders, methods and experiments of the config folder."""
        return load_catalogue(self.folder, self.size)

    # ------------------------------------------------------------------------------------------ things

    def dataset(self, name: str) -> Dataset:
        """The dataset ``name``. A UserError suggests the nearest name if there is none."""
        found: Dataset = self._thing("datasets", name)
        return found

    def encoder(self, name: str) -> Encoder:
        """The encoder ``name``. A UserError suggests the nearest name if there is none."""
        found: Encoder = self._thing("encoders", name)
        return found

    def method(self, name: str) -> Method:
        """The method ``name``. A UserError suggests the nearest name if there is none."""
        found: Method = self._thing("methods", name)
        return found

    def experiment(self, name: str) -> Experiment:
        """The experiment ``name``. A UserError suggests the nearest name if there is none."""
        self.known("experiment", name, self.catalogue.experiments)
        return self.catalogue.experiments[name]

    def _thing(self, kind: str, name: str) -> Any:
        place = (kind, name)
        if place not in self._things:
            known = getattr(self.catalogue, kind) if "catalogue" in self.__dict__ else {}
            if name in known:
                self._things[place] = known[name]
            elif known and variant(name)[0] not in known:
                raise UserError(f"{self.folder}/{kind}: there is no '{name}'{nearest(name, known)}")
            else:  # of a job alone, or a variant that no experiment names any more
                self._things[place] = load_one(self.folder, kind, name, self.size)
        return self._things[place]

    @staticmethod
    def known(kind: str, name: str, known: Iterable[str]) -> None:
        """Raise a UserError that suggests the nearest name if ``name`` is not in ``known``."""
        known = list(known)
        if name not in known:
            raise UserError(f"there is no {kind} '{name}'{nearest(name, known)}")

    def known_view(self, view: str) -> None:
        """Raise a UserError if there is no query view with this name."""
        self.known("query view", view, (AS_IS, *get_args(QueryView)))

    def known_array(self, array: str) -> None:
        """Raise a UserError if encoders give no array of this name."""
        self.known("array", array, (PATCH, *ARRAYS))

    # ------------------------------------------------------------------------------------------ banks

    def bank(self, name: str) -> Bank:
        """The settings of the bank with this id. A method of the project has it, or :meth:`bank_named` was given it."""
        if name not in self._banks:
            for method in self.catalogue.methods.values():
                self.bank_id(method)
        return self._banks[name]

    def bank_id(self, method: Method) -> str:
        """:func:`bank_id`, remembered."""
        if method.id not in self._bank_ids:
            self._bank_ids[method.id] = self._named(method.bank)
        return self._bank_ids[method.id]

    def bank_named(self, text: str) -> str:
        """The id of the bank that a command names.

        Args:
            text: the id of a method that reads the bank, or the settings of the bank as JSON.

        Raises:
            UserError: there is no such method, or the JSON is wrong.
        """
        if not text.startswith("{"):
            return self.bank_id(self.method(text))
        try:
            values = json.loads(text)
        except ValueError as error:
            raise UserError(f"bank: {text[:80]}: is not valid JSON ({error})") from None
        return self._named(validate(Bank, values, "bank"))

    def bank_text(self, name: str) -> str:
        """The settings of a bank as JSON without defaults, as :meth:`bank_named` takes them."""
        return self.bank(name).model_dump_json(exclude_defaults=True)

    def _named(self, bank: Bank) -> str:
        name = config_hash(dump(bank))[:8]
        self._banks[name] = bank
        return name

    # ------------------------------------------------------------------------------------------ places

    def located(self, name: str) -> Dataset:
        """The dataset with its root. The root of a dataset that the workflow makes is below the results."""
        return self.results.located(self.dataset(name))

    def root(self, name: str) -> Path:
        """The folder to which the paths in the manifest of a dataset are relative."""
        from foundad.data.location import image_root

        return image_root(self.located(name))

    # ------------------------------------------------------------------------------------------ the run's cells

    @cached_property
    def experiments(self) -> list[Experiment]:
        """The experiments of the run."""
        return [self.experiment(name) for name in self.chosen]

    @cached_property
    def cells(self) -> list[Cell]:
        """The distinct cells of all experiments of the run."""
        return list(dict.fromkeys(chain.from_iterable(map(self.catalogue.cells, self.experiments))))

    # ------------------------------------------------------------------------------------------ tables and figures

    def table(self, experiment: str, name: str) -> Shown:
        """A table of an experiment. A UserError suggests the nearest name if there is none."""
        tables = self.experiment(experiment).tables
        self.known("table", name, tables)
        return tables[name]

    def figure(self, experiment: str, name: str) -> Shown:
        """A figure of an experiment. A UserError suggests the nearest name if there is none."""
        figures = self.experiment(experiment).figures
        self.known("figure", name, figures)
        return figures[name]

    def read_by(self, experiment: str, spec: Shown) -> dict[str, Read]:
        """The files that a table or figure reads."""
        return shown.read_by(self, self.experiment(experiment), spec)

    def behind(self, experiment: str, spec: Shown) -> dict[str, Read]:
        """The files whose keys enter the key of a table or figure."""
        return shown.behind(self, self.experiment(experiment), spec)

    # ------------------------------------------------------------------------------------------ jobs

    @staticmethod
    def job(read: Read) -> Stage:
        """The job that writes an input."""
        return STAGES[read.stage](*read.wildcards)

    def path(self, read: Read) -> Path:
        """The path of an input."""
        return self.job(read).writes(self.results)[read.file]

    def inputs(self, job: Stage) -> dict[str, Path]:
        """The files that a job reads, by name."""
        return {name: self.path(read) for name, read in job.reads(self).items()}
