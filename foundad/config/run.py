"""Keys of the run: config/config.yaml, and the file that ``--configfile`` lays over it."""

from typing import Literal

from pydantic import Field, model_validator

from foundad.config.base import Id, Strict
from foundad.device import Precision

Size = Literal["demo", "laptop", "paper"]


class Threads(Strict):
    """Number of threads that a job of each stage may use; Snakemake keeps their sum below --cores."""

    manifest: int = Field(2, ge=1)
    features: int = Field(2, ge=1)
    bank: int = Field(1, ge=1)
    fit: int = Field(1, ge=1)
    batch: int = Field(4, ge=1, description="of a job of a cluster, which carries many cells")


Large = Literal["features", "banks", "models", "scores", "masks"]
Policy = Literal["all", "while-needed"]


class Keep(Strict):
    """Which large files stay. Those that are kept while they are needed are deleted after the last job that reads them."""

    features: Policy | None = None
    banks: Policy | None = None
    models: Policy | None = Field(
        None, description="observations and costs need them; keep all to predict with any of them later"
    )


class Run(Strict):
    """What a call of the workflow runs, and how."""

    experiments: list[Id] = Field(min_length=1)
    size: Size = Field(
        "demo",
        description="which value of {demo: …, paper: …} is taken, in every file of the config folder; laptop takes that of "
        "paper where it has none of its own",
    )
    results: str = Field("results", min_length=1, description="folder for everything that the run makes")
    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    precision: Precision = Field(
        "float32",
        description="of the encoder; the projector is bfloat16 where this is float16; tf32 is float32 except on CUDA",
    )
    compile: bool = Field(
        False,
        description="torch.compile for encoders and training; it costs each job half a minute and gains nothing on a CPU",
    )
    batch_size: int = Field(
        32, ge=1, description="images per call of the encoder; halved whenever the GPU's memory is too small"
    )
    warm: bool = Field(
        True, description="jobs on this machine are forked from a process that has imported what they need"
    )
    threads: Threads = Threads()
    keep: Keep = Field(
        Keep(),
        description="absent: everything at sizes demo and laptop; at size paper what is small, the rest while it is needed",
    )
    versions: dict[str, str] = Field(
        default_factory=dict,
        description="package -> version: results made with it count as made with the installed one, and are not made again",
    )

    @property
    def kept(self) -> frozenset[Large]:
        """The large files that stay when nothing reads them any more."""
        default = "while-needed" if self.size == "paper" else "all"
        found: set[Large] = {"scores", "masks"}  # small, and what every metric is computed from
        named: tuple[Large, ...] = ("features", "banks", "models")
        return frozenset(found | {kind for kind in named if (getattr(self.keep, kind) or default) == "all"})

    @model_validator(mode="after")
    def _plain_folder(self) -> "Run":
        wrong = next((c for c in self.results if c in "{}" or not c.isprintable()), None)
        if wrong is not None:
            raise ValueError(f"key 'results': a folder's name holds no {wrong!r} here; choose another")
        if not self.results.strip() or len(self.results) > 1000:
            raise ValueError("key 'results': name a folder, such as results")
        return self
