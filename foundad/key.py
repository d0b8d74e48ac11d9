"""The key of a job, as the plan passes it to the job and the job writes it into its files."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Key:
    """The key of a job, and the keys that its input files must have, by the name of the input."""

    own: str
    inputs: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return " ".join([self.own, *(f"{name}={key}" for name, key in self.inputs.items())])

    @classmethod
    def parse(cls, text: str) -> "Key":
        """The key whose ``str`` is ``text``."""
        own, *rest = text.split()
        parts = (part.rpartition("=") for part in rest)
        return cls(own, {name: key for name, _, key in parts})

    def of(self, name: str) -> str | None:
        """The key that the input ``name`` must have; None: any."""
        return self.inputs.get(name)


BY_HAND = Key("")  # for a stage that is called without a key: its inputs may have any
