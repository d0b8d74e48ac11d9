"""The contract of a stage, and nothing else: one rule of the workflow, stated once.

The rule asks a stage for its files and resources, the plan asks it what its key covers, ``foundad <stage>`` runs its work.
A job is a stage with values for its wildcards. Stage files import each other by name only (:class:`Read`), and heavy modules
inside :meth:`Stage.work`: the workflow imports all stages, and what a stage file imports is part of its key.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

from foundad.cells import AXES, Cell
from foundad.paths import Results

if TYPE_CHECKING:
    from foundad.config.run import Run
    from foundad.device import Compute
    from foundad.key import Key
    from foundad.plan.keys import Keys
    from foundad.plan.project import Project


class Read(NamedTuple):
    """An input: the name of a ``file`` that the job of ``stage`` with these ``wildcards`` writes."""

    stage: str
    wildcards: tuple[str | int, ...]
    file: str


class Sources(NamedTuple):
    """Modules whose sources a job uses with all that they import, but for modules ``without``, which it does not."""

    modules: tuple[str, ...]
    without: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Task:
    """What the work of a job is given.

    Attributes:
        project: the config of named things.
        key: the job's, with those that its inputs must have.
        inputs: files by their names in :meth:`Stage.reads`.
        outputs: files by their names in :meth:`Stage.writes`.
        wanted: how to compute, as the command's options say it; ``auto`` is not resolved yet.
        choose: resolves a device, and takes a GPU where it is one.
        keys: of all jobs of the run; takes a second.
        again: what makes the workflow try a refused manifest again, or nothing.
    """

    project: "Project"
    key: "Key"
    inputs: Mapping[str, Path]
    outputs: Mapping[str, Path]
    wanted: "Compute"
    choose: Callable[[str], str]
    keys: Callable[[], "Keys"]
    again: str = ""

    @property
    def results(self) -> Results:
        """Where all files of the run lie."""
        return self.project.results

    def compute(self, uses_device: bool = True) -> "Compute":
        """How to compute; takes a GPU where the device is one, hence call it before torch is imported."""
        return replace(self.wanted, device=self.choose(self.wanted.device) if uses_device else "cpu")


@dataclass(frozen=True)
class Stage(ABC):
    """A stage; a subclass' fields are its wildcards: names, and the numbers ``shots`` and ``seed``.

    Class attributes:
        name: of the rule and of the command.
        text: what the command says it does.
        options: of the command: device, precision, compile, batch-size, threads.
        defaults: of options, where they are not the usual ones.
        records_failure: a failure takes the place of the outputs, and the run goes on.
        gathers: the command names experiments; without any it is about those of the run config.
        checks: inputs must have the keys that this job's key names.
    """

    name: ClassVar[str]
    text: ClassVar[str]
    options: ClassVar[tuple[str, ...]] = ()
    defaults: ClassVar[Mapping[str, str]] = {}
    records_failure: ClassVar[bool] = True
    gathers: ClassVar[bool] = False
    checks: ClassVar[bool] = True

    @classmethod
    def of(cls, **wildcards: str | int) -> Self:
        """The job with these wildcards, numbers as the text that they are in names of files."""
        numbers = {field.name for field in fields(cls) if field.type in (int, "int")}
        return cls(**{name: int(value) if name in numbers else value for name, value in wildcards.items()})

    @classmethod
    def pattern(cls, **known: str) -> Self:
        """The job of a rule: every wildcard that is not ``known`` is its own name in braces."""
        return cls(**({field.name: f"{{{field.name}}}" for field in fields(cls)} | known))

    @property
    def wildcards(self) -> tuple[str | int, ...]:
        """Their values, in order."""
        return tuple(getattr(self, field.name) for field in fields(self))

    def reads(self, project: "Project") -> dict[str, Read]:
        """The files that the job reads, by what they are to it."""
        return {}

    def rests_on(self, project: "Project") -> dict[str, Read]:
        """What its key chains: the files it reads. Others where it reads a file of everything and uses a few rows."""
        return self.reads(project)

    @abstractmethod
    def writes(self, results: Results) -> dict[str, Path]:
        """The files that the job writes, by name."""

    def sources(self, keys: "Keys") -> Sources:
        """What it runs."""
        return Sources((type(self).__module__,))

    def settings(self, keys: "Keys") -> Any:
        """The config, and contents outside the results, that can change its files; plain JSON types.

        Not ``shots`` and ``seed``: every key holds them, and jobs that differ in them alone share what is hashed here.
        """
        return None

    def uses_gpu(self, project: "Project") -> bool:
        """Whether the job needs a GPU where the run has one."""
        return "device" in self.options

    def threads(self, run: "Run") -> int:
        """Cores that the job keeps busy."""
        return 1

    @abstractmethod
    def work(self, task: Task) -> int | None:
        """Do it; the exit code where it is not 0."""


@dataclass(frozen=True)
class CellStage(Stage, Cell):
    """A stage of one cell: its wildcards are the axes of cells."""

    @property
    def cell(self) -> Cell:
        """The wildcards as the unit they are."""
        return Cell(*(getattr(self, axis) for axis in AXES))
