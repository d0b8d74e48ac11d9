"""The contract of a stage: everything the project knows about one rule of the workflow, stated once.

The rule asks the stage for its files and resources. The plan asks it what its key covers. The command
``foundad <stage>`` runs its work. A job is a stage with values for its wildcards. This module defines no stage itself.

A stage file does not import other stages: it refers to them by name (:class:`Read`). It imports heavy modules inside
:meth:`Stage.work`. There are two reasons: the workflow imports all stages, and the key of a job covers all modules
that its stage file imports.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
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
    """An input of a job: the ``file``, by name, that the job of ``stage`` with these ``wildcards`` writes."""

    stage: str
    wildcards: tuple[str | int, ...]
    file: str


class Sources(NamedTuple):
    """The sources that a job uses: ``modules`` and everything that they import.

    The modules in ``without`` are left out, because this job does not use them.
    """

    modules: tuple[str, ...]
    without: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Task:
    """Everything that the work of a job receives.

    Attributes:
        project: the config of datasets, encoders, methods and experiments.
        key: the key of the job and the keys that its inputs must have.
        inputs: the files to read, by their names in :meth:`Stage.reads`.
        outputs: the files to write, by their names in :meth:`Stage.writes`.
        wanted: how to compute, from the options of the command; the device may still be ``auto``.
        choose: turns the name of a device into a device of this machine; claims a GPU if it chooses one.
        keys: returns the keys of all jobs of the run; the call takes a second.
        again: the text with which the workflow asks to try a refused manifest again; empty if it does not ask.
        beside: name -> key of further arrays of the encoder that the run wants of the same pictures.
    """

    project: "Project"
    key: "Key"
    inputs: Mapping[str, Path]
    outputs: Mapping[str, Path]
    wanted: "Compute"
    choose: Callable[[str], str]
    keys: Callable[[], "Keys"]
    again: str = ""
    beside: Mapping[str, str] = field(default_factory=dict)

    @property
    def results(self) -> Results:
        """The paths of all files of the run."""
        return self.project.results

    def compute(self, uses_device: bool = True) -> "Compute":
        """How to compute, with the device resolved. Claims a GPU if the device is one.

        Call it before torch is imported.

        Args:
            uses_device: False for a job that computes on the CPU in any case.
        """
        return replace(self.wanted, device=self.choose(self.wanted.device) if uses_device else "cpu")


@dataclass(frozen=True)
class Stage(ABC):
    """A stage. The fields of a subclass are its wildcards: names, and the numbers ``shots`` and ``seed``.

    Class attributes:
        name: name of the rule and of the command.
        text: what the help of the command says.
        options: options of the command: device, precision, compile, batch-size, threads, again, beside.
        defaults: defaults of options that differ from the usual ones.
        records_failure: whether a failure is written in place of the outputs, so that the run goes on.
        gathers: whether the command takes experiments as arguments; the default is those of the run config.
        checks: whether the inputs must have the keys that this job's key names.
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
        """The job with these wildcards. Numbers may be given as text, as they occur in file names."""
        numbers = {field.name for field in fields(cls) if field.type in (int, "int")}
        return cls(**{name: int(value) if name in numbers else value for name, value in wildcards.items()})

    @classmethod
    def pattern(cls, **known: str) -> Self:
        """The job that stands for a whole rule: every wildcard that is not ``known`` is its own name in braces."""
        return cls(**({field.name: f"{{{field.name}}}" for field in fields(cls)} | known))

    @property
    def wildcards(self) -> tuple[str | int, ...]:
        """The values of the wildcards, in the order of the fields."""
        return tuple(getattr(self, field.name) for field in fields(self))

    def reads(self, project: "Project") -> dict[str, Read]:
        """The files that the job reads, by the name that it uses for each."""
        return {}

    def rests_on(self, project: "Project") -> dict[str, Read]:
        """The files whose keys enter the key of this job, by name.

        These are the files that it reads. A stage that reads a file about all cells and uses a few of its rows returns
        the files behind those rows instead.
        """
        return self.reads(project)

    @abstractmethod
    def writes(self, results: Results) -> dict[str, Path]:
        """The files that the job writes, by name."""

    def sources(self, keys: "Keys") -> Sources:
        """The modules whose sources the key covers."""
        return Sources((type(self).__module__,))

    def settings(self, keys: "Keys") -> Any:
        """Everything outside the sources that can change the outputs, as plain JSON types.

        That is config, and the contents of files outside the results. Leave out ``shots`` and ``seed``: every key holds
        them anyway, and jobs that differ only in them share the hash of what is returned here.
        """
        return None

    def uses_gpu(self, project: "Project") -> bool:
        """Whether the job uses a GPU when the run has one."""
        return "device" in self.options

    def threads(self, run: "Run") -> int:
        """Cores that the job keeps busy."""
        return 1

    @abstractmethod
    def work(self, task: Task) -> int | None:
        """Do the work. Returns the exit code, or None for 0."""


@dataclass(frozen=True)
class CellStage(Stage, Cell):
    """A stage that works on one cell: its wildcards are the axes of cells."""

    @property
    def cell(self) -> Cell:
        """The cell that the job works on."""
        return Cell(*(getattr(self, axis) for axis in AXES))
