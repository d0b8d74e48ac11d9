"""Strict models of the YAML files: keys, types, ranges and defaults; those of one method, table or figure stand beside it.

A config that these models reject never runs. It asks :mod:`foundad.discovery` which layouts and libraries there are,
:mod:`foundad.paths` which axes cells have, and the kinds of tables and figures for their models. Finding, inheriting and
cross-checking the files is :mod:`foundad.plan.catalogue`'s work.
"""

import importlib
import math
import os
import re
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetCoreSchemaHandler, model_validator
from pydantic_core import PydanticCustomError

from foundad import discovery
from foundad.paths import SHOWN_AXES

# Ids become names of files and words of commands.
_ID = r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$"
Id = Annotated[str, Field(pattern=_ID, max_length=100)]
# Of an encoder or method: a file's id, or that of a variant of it, foundad@training.steps=40,top_k=3.
_CHANGE = r"[a-z][a-z0-9_.]*=[A-Za-z0-9_.+-]+"
_VARIANT_ID = rf"{_ID[:-1]}(@{_CHANGE}(,{_CHANGE})*)?$"
VariantId = Annotated[str, Field(pattern=_VARIANT_ID, max_length=200)]
_MADE_OF = "is no id: write letters, digits, _ . + and -, the first one a letter or a digit"
IN_WORDS = {  # what a value that does not match a pattern is not
    _ID: _MADE_OF,
    _VARIANT_ID: f"{_MADE_OF}, and for a variant @key=value behind it, further ones behind commas",
    r"^[0-9a-f]{64}$": "is no SHA-256: write its 64 digits, 0 to 9 and a to f",
    r"^https?://[^\s/]+/\S*$": "is no address: write it whole, from https:// to the path",
    r"^[^/\\\s.][^/\\\s]*$": "is no name of a file: write it without folders, spaces and a dot in front",
    r"^[^/\s]+/[^/\s]+$": "is no repository: write owner/name",
    r"^(auto|cpu|mps|cuda(:\d+)?)$": "is no device: write auto, cpu, mps, cuda or cuda:N",
}
MOST_CELLS = 200_000  # of one experiment; the whole paper has a few thousand


def expanded(text: str) -> Path:
    """``text`` as a path, with ~ and environment variables replaced.

    A variable that is not set, or is empty, stays as it is written: ``$FOUNDAD_DATA/mpdd`` never becomes ``/mpdd``.
    """
    filled = re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda found: os.environ.get(found[1] or found[2]) or found[0], text)
    return Path(os.path.expanduser(filled))


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("must be odd, so that the window has a centre")
    return value


Odd = Annotated[int, Field(ge=1), AfterValidator(_odd)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Range = tuple[float, float]
Triple = tuple[float, float, float]
Counts = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=2, max_length=3)]
Size = Literal["demo", "laptop", "paper"]
if TYPE_CHECKING:
    LayoutName = str
    LibraryName = str
else:  # one file each
    LayoutName = Literal[tuple(discovery.layouts())]
    LibraryName = Literal[tuple(discovery.libraries())]


def file_of(kind: str, name: str) -> str:
    """The YAML of a thing, as messages name it; of a variant that of its base."""
    return f"config/{kind}/{name.partition('@')[0]}.yaml"


class Strict(BaseModel):
    """Base of all models: unknown keys are errors, values cannot be changed after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


# ---------------------------------------------------------------------------------------------------- datasets


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Url = Annotated[str, Field(pattern=r"^https?://[^\s/]+/\S*$")]


class Download(Strict):
    """How ``foundad data get`` comes by a dataset: from its owner's server, or from an archive that people get themselves."""

    page: Url = Field(description="the owner's page, with the licence in full and the way to the archive")
    archive: str | None = Field(
        None,
        pattern=r"^[^/\\\s.][^/\\\s]*$",
        description="file name of the archive as it is distributed, if it has one",
    )
    url: Url | None = Field(None, description="of the archive; absent where its owner wants a form or a log-in first")
    sha256: Sha256 | None = Field(None, description="of the archive; absent where none is known, it is recorded then")

    @model_validator(mode="after")
    def _named(self) -> "Download":
        if self.archive is None and (self.url or self.sha256):
            raise ValueError("key 'archive' is missing: name the file that url and sha256 are of")
        return self


class Dataset(Strict):
    """One dataset: where its images lie, in which directory layout, under which licence."""

    id: Id
    title: str
    layout: LayoutName
    root: str | None = Field(None, description="folder of the images; $NAME is taken from the environment")
    categories: list[str] | dict[str, str] | None = Field(
        None, description="names, or name -> folder below the root; absent = every folder, sorted"
    )
    generator: Literal["textures"] | None = Field(
        None, description="the workflow makes this dataset itself; no root then"
    )
    strict: bool = Field(True, description="false leaves broken files out instead of stopping")
    counts: dict[str, Counts] = Field(
        default_factory=dict,
        description="published numbers a category: images for draws, normal and defective test images; "
        "or two numbers, all normal and all defective images, where the set is published without a split",
    )
    draws: str | None = Field(
        None, description="CSV with the columns category, image and if wanted shots, seed: drawn instead of at random"
    )
    mask_threshold: int = Field(0, ge=0, le=254, description="grey value above which a mask shows a defect")
    max_pixels: int = Field(
        89_478_485, ge=1, le=1 << 30, description="pictures of more pixels are refused before they are decoded"
    )
    top_k: int = Field(10, ge=1, description="patches averaged into the image score (paper: 10, VisA 6)")
    download: Download | None = Field(None, description="read by foundad data get alone")
    licence: str
    source: str

    @property
    def folders(self) -> dict[str, str] | None:
        """Category name -> folder below the root, or None to discover them."""
        if isinstance(self.categories, list):
            return {name: name for name in self.categories}
        return self.categories

    @property
    def expanded_root(self) -> Path | None:
        """The root with environment variables and ~ expanded; unset variables stay as they are written."""
        return None if self.root is None else expanded(self.root)

    @property
    def expanded_draws(self) -> Path:
        """The list of draws with environment variables and ~ expanded."""
        return expanded(self.draws or "")


# ---------------------------------------------------------------------------------------------------- encoders


class PackageWeights(Strict):
    """Weights inside an installed Python package."""

    package: str
    module: str
    file: str
    sha256: Sha256


class HubWeights(Strict):
    """Weights of a repository on the Hugging Face hub."""

    repository: str = Field(pattern=r"^[^/\s]+/[^/\s]+$", description="owner/name")
    revision: str = Field("main", description="branch, tag or commit")
    file: str = "model.safetensors"
    sha256: Sha256 | None = Field(None, description="checked where it is given")
    gated: bool = Field(False, description="the hub asks to accept a licence first")


class LocalWeights(Strict):
    """Weights in a file of one's own; $NAME is taken from the environment."""

    path: str
    sha256: Sha256 | None = None


class Layer(NamedTuple):
    """One of several layers whose channels stand side by side in a patch token.

    channels: of this layer. grid: patch tokens per side of the layer itself; where it is coarser than the encoder's grid,
    each of its tokens is repeated.
    """

    channels: int
    grid: int


class Blocks(Strict):
    """Patch tokens of one transformer block, or of several."""

    kind: Literal["blocks"] = "blocks"
    patch: int = Field(ge=1, description="side of a patch in pixels")
    depth: int = Field(ge=1, description="number of transformer blocks of the encoder")
    layer: int = Field(3, ge=1, description="block counted from the end: 3 = third from the end (paper)")
    layers: list[Annotated[int, Field(ge=1)]] | None = Field(
        None, min_length=1, description="several blocks instead of key layer, counted from the end"
    )
    combine: Literal["concatenate", "average"] = Field(
        "concatenate", description="how the tokens of several blocks become one"
    )
    norm: bool = Field(True, description="apply the encoder's final normalisation to the tokens")
    positions: Literal["library", "official"] = Field(
        "library",
        description="how learned positions are brought to another image size: as the library does, or as the official "
        "DINO and DINOv2 code does (bicubic, offset 0.1, no antialiasing)",
    )
    rope_periods: Literal["float32", "bfloat16"] = Field(
        "float32", description="precision of rotary periods; the official DINOv3 weights hold them in bfloat16"
    )

    @property
    def counted(self) -> list[int]:
        """The blocks, counted from the end, in the order their channels stand."""
        return [self.layer] if self.layers is None else self.layers


class Stages(Strict):
    """Feature maps of convolutional stages, average-pooled and brought to one grid, channels concatenated."""

    kind: Literal["stages"] = "stages"
    strides: list[Annotated[int, Field(ge=1)]] = Field(min_length=1, max_length=16)
    pool: Odd = Field(3, description="side of the average-pooling window, stride 1")
    grid: int = Field(ge=1, le=1024, description="patch tokens per side")
    upsampling: Literal["bilinear", "nearest"] = Field(
        "bilinear",
        description="of stages coarser than the grid; nearest repeats them, so that methods can take it back",
    )
    channels: list[Annotated[int, Field(ge=1)]] | None = Field(
        None, description="of each stage, for methods that search layers alone; absent = one layer to them"
    )


class Encoder(Strict):
    """One frozen encoder at one layer and one resolution, or several whose tokens are concatenated."""

    id: VariantId
    title: str
    library: LibraryName
    parts: list["Encoder"] = Field(
        default_factory=list, description="of a concatenation: ids of encoders; the other keys come from them"
    )
    model: str = Field(description="name in the library; for transformers the model's class")
    options: dict[str, int | float | str | bool | list[int]] = Field(
        default_factory=dict,
        description="of the network: for timm's create_model, of the image tower's configuration in open_clip, or of the "
        "configuration of a model of transformers",
    )
    weights: PackageWeights | HubWeights | LocalWeights | Literal["random"]
    image_size: int = Field(ge=32, le=8192)
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    size_mode: Literal["squash", "crop", "pad"] = Field(
        "squash",
        description="how a picture that is not square meets the input: squashed (as published), the short side at the "
        "size and the centre cropped, or the long side at the size and padded",
    )
    mean: Triple
    std: Triple
    features: Annotated[Blocks | Stages, Field(discriminator="kind")]
    channels: int = Field(ge=1, description="channels D of a patch token")
    tokens: Literal["raw", "unit", "standardised"] = Field(
        "raw",
        description="what methods read: as stored; of mean square 1 each; or each channel standardised with the "
        "statistics of the drawn images alone",
    )
    licence: str
    source: str

    @model_validator(mode="before")
    @classmethod
    def _of_parts(cls, values: Any) -> Any:
        """A concatenation sees images as its first part does, and has the channels of all."""
        if not isinstance(values, dict) or values.get("library") != "concatenation":
            return values
        named = values.get("parts")
        parts = [part for part in named if isinstance(part, dict)] if isinstance(named, list) else []
        if len(parts) < 2:
            raise ValueError("key 'parts': a concatenation names at least two encoders")
        keys = ("weights", "image_size", "interpolation", "size_mode", "mean", "std", "features")
        shared = {key: parts[0][key] for key in keys if key in parts[0]}
        if isinstance(shared.get("features"), dict):  # its layers' channels are the parts' own affair
            shared["features"] = {key: value for key, value in shared["features"].items() if key != "channels"}
        channels = sum(part["channels"] for part in parts if isinstance(part.get("channels"), int))
        return {"model": "+".join(str(part.get("id")) for part in parts), "channels": channels} | shared | values

    @property
    def file(self) -> str:
        """The file to mend; of a variant that of its base."""
        return file_of("encoders", self.id)

    @property
    def grid(self) -> int:
        """Patch tokens per side; N = grid**2."""
        if isinstance(self.features, Stages):
            return self.features.grid
        return self.image_size // self.features.patch

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers side by side in a patch token, as methods see them; their channels sum to :attr:`channels`."""
        features = self.features
        if self.parts:
            return tuple(layer for part in self.parts for layer in part.layers)
        if isinstance(features, Blocks):
            count = len(features.counted) if features.combine == "concatenate" else 1
            return (Layer(self.channels // count, self.grid),) * count
        if features.channels is None:
            return (Layer(self.channels, self.grid),)
        own = [min(self.grid, self.image_size // stride) for stride in features.strides]
        grids = own if features.upsampling == "nearest" else [self.grid] * len(own)
        return tuple(Layer(*values) for values in zip(features.channels, grids, strict=True))

    @model_validator(mode="after")
    def _parts_agree(self) -> "Encoder":
        for part in self.parts:
            if (part.image_size, part.grid) != (self.image_size, self.grid):
                raise ValueError(
                    f"key 'parts': {part.id} has {part.image_size} px and {part.grid} x {part.grid} tokens, "
                    f"{self.parts[0].id} has {self.image_size} px and {self.grid} x {self.grid}; they must agree"
                )
        return self

    @model_validator(mode="after")
    def _possible(self) -> "Encoder":
        features = self.features
        if isinstance(features, Blocks):
            if self.image_size % features.patch:
                below = self.image_size - self.image_size % features.patch
                raise ValueError(
                    f"key 'image_size': {self.image_size} is not a multiple of the patch {features.patch}; "
                    f"nearest: {below} or {below + features.patch}"
                )
            if max(features.counted) > features.depth:
                key = "layer" if features.layers is None else "layers"
                raise ValueError(
                    f"key 'features.{key}': {max(features.counted)} is beyond the depth {features.depth}; "
                    f"choose 1 to {features.depth}"
                )
            if features.combine == "concatenate" and self.channels % len(features.counted):
                raise ValueError(
                    f"key 'channels': {self.channels} is not divided by {len(features.counted)} blocks; "
                    "count the channels of all of them"
                )
        else:
            for stride in features.strides:
                if self.image_size % stride:
                    below = self.image_size - self.image_size % stride
                    raise ValueError(
                        f"key 'image_size': {self.image_size} is not a multiple of the stride {stride}; "
                        f"nearest: {below} or {below + stride}"
                    )
                own = min(self.image_size // stride, features.grid)
                if features.upsampling == "nearest" and features.grid % own:
                    raise ValueError(
                        f"key 'features.upsampling': nearest repeats whole tokens, and the grid {features.grid} is no "
                        f"multiple of the {own} of stride {stride}; choose bilinear"
                    )
            if features.channels is not None:
                if len(features.channels) != len(features.strides):
                    raise ValueError("key 'features.channels': one number for each of the strides")
                if sum(features.channels) != self.channels:
                    raise ValueError(f"key 'features.channels': sum to {sum(features.channels)}, not {self.channels}")
        return self


# ---------------------------------------------------------------------------------------------------- methods


class Augmentation(Strict):
    """Augmentation of the drawn normal images on the original picture, before resizing (code of the paper)."""

    geometric_probability: Fraction = 0.3
    horizontal_flip: bool = True
    vertical_flip: bool = True
    rotate_90: bool = True
    rotation: Literal["whole", "cropped"] = Field(
        "whole", description="cropped keeps the frame: black bars on pictures that are not square (released code)"
    )
    appearance_probability: Fraction = 0.3
    colour_jitter: bool = True
    greyscale: bool = True
    blur: bool = True


class Synthesis(Strict):
    """CutPaste anomalies; ranges of the paper's released code (Li et al., CVPR 2021)."""

    foreground: Literal["adaptive", "whole", "by-category"] = Field(
        "adaptive", description="found in every picture, the whole picture, or the released code's table of names"
    )
    placement: Literal["covered", "corner"] = Field(
        "covered", description="half of the piece lies on the foreground, or its top-left corner alone (released code)"
    )
    normal_probability: Fraction = Field(0.5, description="large rectangles; the others are scars")
    area_range: Range = Field((0.02, 0.25), description="share of the picture")
    aspect_range: Range = Field((0.3, 1 / 0.3), description="width over height")
    scar_width_range: Range = Field((2, 16), description="pixels")
    scar_height_range: Range = Field((10, 25), description="pixels")
    scar_angle: float = Field(45.0, ge=0, le=180, description="degrees to either side")
    scar_corners: Literal["left-out", "pasted"] = Field(
        "left-out", description="corners of a turned scar's frame: pasted as the mean colour by the released code"
    )
    jitter: float = Field(0.5, ge=0, le=0.5, description="brightness, contrast, saturation, hue")
    jitter_space: Literal["unit", "normalised"] = Field(
        "unit", description="colours in [0,1], or normalised ones, which lose all that is darker than the mean"
    )


QueryView = Literal["flip-horizontal", "flip-vertical", "clamp"]


class Bank(Strict):
    """The bank of patch tokens a method learns from: the drawn images, and pairs of clean and synthetic ones."""

    pairs: int = Field(64, ge=0, description="clean/synthetic pairs, spread evenly over the drawn images")
    rotations: int = Field(
        1,
        ge=1,
        exclude_if=lambda v: v == 1,
        description="the drawn images as they are also turned, in so many even steps",
    )
    flips: list[Literal["horizontal", "vertical"]] = Field(
        default_factory=list, exclude_if=lambda v: not v, description="and flipped"
    )
    queries: list[QueryView] = Field(
        default_factory=list,
        exclude_if=lambda v: not v,
        description="further views of every picture, each scored against the drawn images under that view; maps are summed",
    )
    augmentation: Augmentation = Augmentation()
    synthesis: Synthesis = Synthesis()

    @property
    def views(self) -> int:
        """How often each drawn image is seen: as it is, turned and flipped."""
        return self.rotations + len(self.flips)

    def passes(self, drawn: int) -> int:
        """Images that are encoded to make it of so many drawn ones: under every query view all views and all clean pictures
        of pairs, and the synthetic pictures once."""
        views = 1 + len(self.queries)
        return views * (drawn * self.views + self.pairs) + self.pairs


class Told(NamedTuple):
    """Something that a method can be told: in words, and the mark behind its title in tables (empty: no mark)."""

    words: str
    mark: str = ""


Need = Literal["features", "bank", "images", "ids", "test set", "truth"]
# All that a method can be told. What is more than the drawn images and the image that it scores has a mark.
TOLD: dict[Need, Told] = {
    "features": Told("the patch tokens of a test image, to score it"),
    "bank": Told("the patch tokens of the drawn images, and of pairs of clean and synthetic pictures made of them"),
    "images": Told("the drawn images themselves, of which pairs are made while it trains; instead of a bank"),
    "ids": Told("the ids of the test images", "image ids"),
    "test set": Told("the other test images, on which the scores of an image depend", "transductive"),
    "truth": Told("labels and masks of the test images; instead of their features", "ground truth"),
}


class Method(Strict):
    """Keys common to all methods; a detector's own settings class adds its keys to these.

    A settings class says in ``needs`` what its detector is told (:data:`TOLD`), and it is told nothing else.
    """

    id: VariantId
    title: str
    detector: str = Field(description="name of the detector: foundad, or a file or folder of baselines/")
    control: bool = Field(False, description="a control, never a competitor: not ranked in tables")
    scope: Literal["pooled", "category"] = Field("pooled", description="one model for all categories, or one each")
    bank: Bank = Bank()
    top_k: int | None = Field(None, ge=1, description="patches averaged into the image score; absent = the dataset's")
    top_share: float | None = Field(
        None, gt=0, le=1, description="instead of top_k: this share of the patches, rounded down, at least one"
    )
    score_size: int | None = Field(
        None, ge=1, description="side of the smoothed map that the image score is taken from; absent = the patch grid"
    )
    smoothing: float = Field(0.0, ge=0, description="deviation of a Gaussian over the maps, in pixels; 0 as published")

    @property
    def needs(self) -> frozenset[Need]:
        """What the detector is told, of :data:`TOLD`."""
        return frozenset({"bank", "features"})

    @property
    def uses_device(self) -> bool:
        """Computes with torch on the run's device; the others never import it."""
        return False

    @property
    def label(self) -> str:
        """The title as tables print it, with what sets a competitor apart from one model of all categories that is told
        the drawn images alone."""
        if self.control:
            return self.title
        marks = ["per category"] * (self.scope == "category")
        marks += [told.mark for need, told in TOLD.items() if need in self.needs and told.mark]
        return self.title + "".join(f" ({mark})" for mark in marks)

    def passes(self, drawn: int, steps: int = 0) -> int:
        """Images that are encoded to fit it on so many drawn ones, in so many training steps; its bank's."""
        return self.bank.passes(drawn) if "bank" in self.needs else 0

    def numbers(self, drawn: int, encoder: Encoder) -> float:
        """Numbers of four bytes that one detector holds when it is fitted on so many ``drawn`` images, about.

        A run's disk is planned with it.
        """
        return float(drawn * self.bank.views * encoder.grid**2 * encoder.channels)

    @property
    def file(self) -> str:
        """The file to mend; of a variant that of its base."""
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
    """How nearest neighbours are searched, see :mod:`foundad.detection.shared.search`; exact in float32."""

    backend: Literal["numpy", "torch"] = Field("numpy", description="torch computes on the run's device")
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="of the matrix products")

    @model_validator(mode="after")
    def _possible(self) -> "Search":
        if self.dtype == "bfloat16" and self.backend == "numpy":
            raise ValueError("key 'search.dtype': numpy has no bfloat16; set search.backend to torch")
        return self


class MemoryMethod(Method):
    """Keys common to the methods that search a memory of patch tokens."""

    search: Search = Search()

    @property
    def uses_device(self) -> bool:
        """With torch alone."""
        return self.search.backend == "torch"


# ---------------------------------------------------------------------------------------------------- experiments

if TYPE_CHECKING:
    Axis = str
    CellAxis = str
else:
    CellAxis = Literal[SHOWN_AXES]
    Axis = Literal[(*SHOWN_AXES, "category")]
Where = Annotated[
    dict[Axis, list[str | int]], Field(default_factory=dict, description="values of axes that are shown; absent = all")
]


class Grid(Strict):
    """Every combination of these values is a cell."""

    datasets: list[Id] = Field(min_length=1)
    encoders: list[VariantId] = Field(min_length=1, description="ids, or {base: id, vary: {key: [values]}}")
    methods: list[VariantId] = Field(min_length=1, description="ids, or {base: id, vary: {key: [values]}}")
    shots: list[Annotated[int, Field(ge=1)]] = Field(min_length=1)
    seeds: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _varied(cls, values: Any) -> Any:
        """``{base: foundad, vary: {training.steps: [20, 40]}}`` names a variant for every combination of the values."""
        if not isinstance(values, dict):
            return values
        named = {kind: values[kind] for kind in ("encoders", "methods") if isinstance(values.get(kind), list)}
        return values | {
            kind: [name for number, entry in enumerate(found) for name in variants(entry, f"{kind}.{number}")]
            for kind, found in named.items()
        }


def variants(entry: Any, key: str) -> list[Any]:
    """The ids that an entry of a grid names: itself, or one for every combination of the values of its key ``vary``.

    ``key`` is the entry's own, as errors name it.
    """
    if not isinstance(entry, dict):
        return [entry]
    base, vary = entry.get("base"), entry.get("vary")
    if set(entry) != {"base", "vary"} or not isinstance(base, str) or not isinstance(vary, dict) or not vary:
        raise _wrong(key, "write an id, or {base: id, vary: {key: [values]}}")
    changes = []
    for name, found in sorted(vary.items(), key=str):  # one id, in whatever order they are written
        if not isinstance(found, list) or not found or not all(isinstance(v, bool | int | float | str) for v in found):
            raise _wrong(f"{key}.vary", f"{name}: write a list of numbers or words")
        changes.append([f"{name}={str(v).lower() if isinstance(v, bool) else v}" for v in found])
    return [f"{base}@{','.join(chosen)}" for chosen in product(*changes)]


def _wrong(key: str, message: str) -> PydanticCustomError:
    """An error at a ``key`` inside the value that is validated."""
    return PydanticCustomError("inside", "{message}", {"key": key, "message": message})


class OfKind:
    """Marks a model that the key ``kind`` chooses: a file of foundad/report/tables or foundad/report/figures.

    They are imported when the first experiment is read, and by name: jobs that read none do not depend on them.
    """

    def __init__(self, group: Literal["tables", "figures"]) -> None:
        self.group = group

    def models(self) -> list[type[Strict]]:
        """The models of all kinds."""
        return list(self._registry.kinds().values())

    @property
    def _registry(self) -> Any:
        return importlib.import_module(f"foundad.report.{self.group}")

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        return handler.generate_schema(self._registry.union())


class Experiment(Strict):
    """One experiment: the cells it selects, and the tables and figures made of them.

    tables, figures: of :class:`foundad.report.tables.base.Table` and :class:`foundad.report.figures.base.Figure`.
    """

    model_config = ConfigDict(defer_build=True)  # until the first is read: kinds import this file

    id: Id
    title: str
    cells: list[Grid] = Field(min_length=1)
    tables: dict[Id, Annotated[Any, OfKind("tables")]] = Field(default_factory=dict)
    figures: dict[Id, Annotated[Any, OfKind("figures")]] = Field(default_factory=dict)
    skip_if_absent: bool = Field(False, description="leave out, with a line, when a dataset's folder is not there")

    @model_validator(mode="after")
    def _possible(self) -> "Experiment":
        cells = sum(math.prod(len(values) for _, values in grid) for grid in self.cells)
        if cells > MOST_CELLS:
            raise ValueError(f"key 'cells': selects {cells} cells; at most {MOST_CELLS} make an experiment")
        return self


# ---------------------------------------------------------------------------------------------------- the run


class Threads(Strict):
    """Threads a job of each stage may use; Snakemake keeps their sum below --cores."""

    manifest: int = Field(2, ge=1)
    features: int = Field(2, ge=1)
    bank: int = Field(1, ge=1)
    fit: int = Field(1, ge=1)
    batch: int = Field(4, ge=1, description="of a job of a cluster, which carries many cells")


Large = Literal["features", "banks", "models", "scores"]


class Keep(Strict):
    """Which large files stay; those that are kept while they are needed go with the last job that reads them."""

    features: Literal["all", "while-needed"] | None = None
    banks: Literal["all", "while-needed"] | None = None
    models: Literal["all", "while-needed"] | None = Field(
        None, description="needed by observations and costs; keep all to predict with any of them later"
    )


Precision = Literal["float32", "tf32", "bfloat16", "float16"]


class Run(Strict):
    """What a call of the workflow runs, and where: config/config.yaml and whatever --configfile lays over it."""

    experiments: list[Id] = Field(min_length=1)
    size: Size = Field(
        "demo",
        description="which values of {demo: …, paper: …} hold, in every file of the config folder; laptop takes those of "
        "paper where it has none of its own",
    )
    results: str = Field("results", min_length=1, description="folder of all that the run makes")
    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    precision: Precision = Field(
        "float32",
        description="of the encoder; the projector is bfloat16 where this is float16; tf32 is float32 but on CUDA",
    )
    compile: bool = Field(
        False, description="torch.compile for encoders and training: half a minute a job at first, no gain on a CPU"
    )
    batch_size: int = Field(32, ge=1, description="images an encoder call; halved where the GPU's memory asks for it")
    warm: bool = Field(
        True, description="jobs on this machine are forked from a process that has imported what they need"
    )
    threads: Threads = Threads()
    keep: Keep = Field(
        Keep(), description="absent: all at sizes demo and laptop, else what is small, and the rest while it is needed"
    )
    versions: dict[str, str] = Field(
        default_factory=dict,
        description="package -> version: results made with it count as made with the installed one, and are not made again",
    )

    @property
    def kept(self) -> frozenset[Large]:
        """The large files that stay when nothing reads them any more."""
        default = "while-needed" if self.size == "paper" else "all"
        found: set[Large] = {"scores"}  # small, and what every metric is computed from
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


KINDS: dict[str, type[Strict]] = {
    "datasets": Dataset,
    "encoders": Encoder,
    "methods": Method,
    "experiments": Experiment,
}


def dump(model: Strict) -> dict[str, Any]:
    """The resolved values as plain JSON types, defaults included: what hashes and records hold."""
    return model.model_dump(mode="json")
