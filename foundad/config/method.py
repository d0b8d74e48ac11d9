"""Keys common to all methods: config/methods/*.yaml. The settings class of each detector adds its own keys."""

from typing import TYPE_CHECKING, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from foundad.config.bank import Bank
from foundad.config.base import Strict, VariantId, file_of

if TYPE_CHECKING:
    from foundad.config.encoder import Encoder


class Told(NamedTuple):
    """Something that a method can be told: what it is, and the mark behind the title in tables (empty = no mark)."""

    words: str
    mark: str = ""


Need = Literal["features", "bank", "class", "images", "ids", "test set", "truth"]
# All that a method can be told. Whatever goes beyond the drawn images and the scored image has a mark.
TOLD: dict[Need, Told] = {
    "features": Told("the patch tokens of a test image, to score it"),
    "bank": Told("the patch tokens of the drawn images, and of pairs of clean and synthetic pictures made of them"),
    "class": Told("the class token of a test image, and those of the pictures of the bank"),
    "images": Told("the drawn images themselves, of which pairs are made while it trains; instead of a bank"),
    "ids": Told("the ids of the test images", "image ids"),
    "test set": Told("the other test images, on which the scores of an image depend; all at once", "transductive"),
    "truth": Told("labels and masks of the test images; instead of their features", "ground truth"),
}

ARRAYS: tuple[Need, ...] = ("class",)  # what an encoder gives beside patch tokens, each an array of that name


class Contrast(Strict):
    """Centre minus surround on the patch scores (:mod:`foundad.detection.contrast`)."""

    weight: float = Field(0.5, gt=0, le=1, description="share of the surround that is subtracted")
    sigma: float = Field(6.0, gt=0, description="standard deviation of the surround's Gaussian, in patches")


class Method(Strict):
    """Keys common to all methods. The settings class of a detector is a subclass that adds its own keys.

    A settings class says in ``needs`` what its detector is told, out of :data:`TOLD`. The detector is told nothing else.
    """

    id: VariantId
    title: str
    detector: str = Field(description="name of the detector: foundad, or a file or folder of baselines/")
    control: bool = Field(False, description="a control, never a competitor: not ranked in tables")
    scope: Literal["pooled", "category"] = Field(
        "pooled", description="one model of all categories, or one model per category"
    )
    bank: Bank = Bank()
    top_k: int | None = Field(
        None, ge=1, description="number of patches averaged into the image score; absent = the dataset's"
    )
    top_share: float | None = Field(
        None,
        gt=0,
        le=1,
        description="instead of top_k: the share of the patches that is averaged, rounded down, at least one patch",
    )
    score_size: int | None = Field(
        None,
        ge=1,
        description="side in pixels of the smoothed map that gives the image score; absent = the patch grid gives it",
    )
    contrast: Contrast | None = Field(
        None,
        exclude_if=lambda v: v is None,
        description="subtract from every patch score a share of its surround's; absent = none (as published)",
    )
    smoothing: float = Field(
        0.0, ge=0, description="standard deviation of a Gaussian over the maps, in pixels; 0 = none (as published)"
    )

    @property
    def needs(self) -> frozenset[Need]:
        """What the detector is told, out of :data:`TOLD`."""
        return frozenset({"bank", "features"})

    @property
    def arrays(self) -> tuple[str, ...]:
        """The arrays of the encoder, by name, that the detector is told beside the patch tokens."""
        return tuple(name for name in ARRAYS if name in self.needs)

    @property
    def draws(self) -> bool:
        """Whether it learns from drawn images. If not, nothing depends on the number of shots."""
        return not {"bank", "images"}.isdisjoint(self.needs)

    @property
    def uses_device(self) -> bool:
        """Whether it computes with torch on the run's device; other methods never import torch."""
        return False

    @property
    def label(self) -> str:
        """The title as tables print it.

        Behind the title of a competitor stand marks: that it has one model per category, and what it is told beyond the drawn
        images and the scored image.
        """
        if self.control:
            return self.title
        marks = ["per category"] * (self.scope == "category")
        marks += [told.mark for need, told in TOLD.items() if need in self.needs and told.mark]
        return self.title + "".join(f" ({mark})" for mark in marks)

    def passes(self, drawn: int, steps: int = 0) -> int:
        """Number of pictures that are encoded to fit the method on ``drawn`` images in ``steps`` training steps."""
        return self.bank.passes(drawn) if "bank" in self.needs else 0

    def numbers(self, drawn: int, encoder: "Encoder") -> float:
        """Numbers of four bytes that one detector holds when it is fitted on so many ``drawn`` images, about.

        A run's disk is planned with it.
        """
        return float(drawn * self.bank.views * encoder.grid**2 * encoder.channels)

    def operations(self, drawn: int, tested: int, categories: int, encoder: "Encoder") -> float:
        """Floating-point operations to fit the method on ``drawn`` images and to score ``tested`` ones, about.

        By default every test token is compared with every token that the bank holds of its scope. Encoding is not
        counted. A run's time is planned with it.
        """
        if "bank" not in self.needs:
            return 0.0
        searched = drawn * self.bank.views / (categories if self.scope == "category" else 1)
        return 2.0 * encoder.channels * tested * searched * encoder.grid**4

    def held(self, images: int, encoder: "Encoder") -> int:
        """Bytes that scoring so many test ``images`` takes at a time, if a method needs them together (``test set``)."""
        return 0

    @property
    def file(self) -> str:
        """The YAML file that messages name; for a variant the file of its base."""
        return file_of("methods", self.id)

    def quick(self) -> Self:
        """The same method with so little work that a test of it takes a moment."""
        return self

    @model_validator(mode="after")
    def _one_count(self) -> "Method":
        if self.top_k is not None and self.top_share is not None:
            raise ValueError("key 'top_share': give either top_k or top_share")
        return self


class Search(Strict):
    """How nearest neighbours are searched (:mod:`foundad.detection.shared.search`); exact in float32."""

    backend: Literal["numpy", "torch"] = Field("numpy", description="torch computes on the run's device")
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="precision of the matrix products")

    @model_validator(mode="after")
    def _possible(self) -> "Search":
        if self.dtype == "bfloat16" and self.backend == "numpy":
            raise ValueError("key 'search.dtype': numpy has no bfloat16; set search.backend to torch")
        return self


class MemoryMethod(Method):
    """Keys common to the methods that search a memory of patch tokens."""

    search: Search = Search()
    local_mean: int = Field(
        1,
        ge=1,
        exclude_if=lambda v: v == 1,
        description="distance to the mean of so many nearest vectors of the memory; 1 = to the nearest (as published)",
    )

    @property
    def uses_device(self) -> bool:
        """Whether the search computes with torch."""
        return self.search.backend == "torch"
