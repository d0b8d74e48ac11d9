"""The key of a job as it travels from the plan to the job and into its files: two short strings, no knowledge."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Key:
    """The key of a job, and those that the files it reads must have, by the name of the input."""

    own: str
    inputs: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return " ".join([self.own, *(f"{name}={key}" for name, key in self.inputs.items())])

    @classmethod
    def parse(cls, text: str) -> "Key":
        """What ``str`` of a key gave."""
        own, *rest = text.split()
        parts = (part.rpartition("=") for part in rest)
        return cls(own, {name: key for name, _, key in parts})

    def of(self, name: str) -> str | None:
        """The key that the input ``name`` must have; None: any."""
        return self.inputs.get(name)


BY_HAND = Key("")  # of a stage that is called without one: its inputs may have any
