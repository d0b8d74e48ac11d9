"""Keys of an encoder: config/encoders/*.yaml, with its weights and the kind of features that it gives."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import Field, model_validator

from foundad import discovery
from foundad.config.base import Odd, Sha256, Strict, VariantId, file_of

Triple = tuple[float, float, float]
if TYPE_CHECKING:
    LibraryName = str
else:  # one file each
    LibraryName = Literal[tuple(discovery.libraries())]


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
    """Weights in a local file; $NAME in its path is taken from the environment."""

    path: str
    sha256: Sha256 | None = None


class Layer(NamedTuple):
    """One of several layers whose channels stand side by side in a patch token.

    channels: number of channels of this layer. grid: patch tokens per side of the layer itself. Where its grid is coarser
    than the encoder's, each of its tokens is repeated.
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
        None, min_length=1, description="several blocks instead of the key layer, counted from the end"
    )
    combine: Literal["concatenate", "average", "halves"] = Field(
        "concatenate",
        description="how the tokens of several blocks become one: side by side, their mean, or the means of the first and of "
        "the second half of the blocks side by side",
    )
    norm: bool = Field(True, description="apply the encoder's final normalisation to the tokens")
    positions: Literal["library", "official"] = Field(
        "library",
        description="how learned positions are resized for another image size: as the library does it, or as the official "
        "DINO and DINOv2 code does it (bicubic, offset 0.1, no antialiasing)",
    )
    rope_periods: Literal["float32", "bfloat16"] = Field(
        "float32", description="precision of rotary periods; the official DINOv3 weights hold them in bfloat16"
    )

    @property
    def counted(self) -> list[int]:
        """The blocks, counted from the end, in the order in which their channels stand in a token."""
        return [self.layer] if self.layers is None else self.layers

    @property
    def groups(self) -> int:
        """How many layers stand side by side in a token."""
        return {"concatenate": len(self.counted), "average": 1, "halves": 2}[self.combine]


class Stages(Strict):
    """Feature maps of convolutional stages: average-pooled, resized to one grid, and concatenated along the channels."""

    kind: Literal["stages"] = "stages"
    strides: list[Annotated[int, Field(ge=1)]] = Field(min_length=1, max_length=16)
    pool: Odd = Field(3, description="side of the average-pooling window, stride 1")
    grid: int = Field(ge=1, le=1024, description="patch tokens per side")
    upsampling: Literal["bilinear", "nearest"] = Field(
        "bilinear",
        description="of stages that are coarser than the grid; nearest repeats their tokens, which methods can undo",
    )
    channels: list[Annotated[int, Field(ge=1)]] | None = Field(
        None,
        description="number of channels of each stage, for methods that treat layers separately; absent = one layer",
    )


class Encoder(Strict):
    """One frozen encoder at one resolution; or several, whose tokens are concatenated."""

    id: VariantId
    title: str
    library: LibraryName
    parts: list["Encoder"] = Field(
        default_factory=list, description="of a concatenation: ids of the encoders, from which the other keys follow"
    )
    model: str = Field(description="name of the model in the library; for transformers the name of its class")
    options: dict[str, int | float | str | bool | list[int]] = Field(
        default_factory=dict,
        description="of the network: for timm's create_model, of the configuration of open_clip's image tower, or of the "
        "configuration of a model of transformers",
    )
    weights: PackageWeights | HubWeights | LocalWeights | Literal["random"]
    image_size: int = Field(ge=32, le=8192)
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    size_mode: Literal["squash", "crop", "pad"] = Field(
        "squash",
        description="how a picture that is not square becomes a square input: both sides are resized (as published); the "
        "short side is, and the centre cropped; or the long side is, and the rest padded",
    )
    mean: Triple
    std: Triple
    features: Annotated[Blocks | Stages, Field(discriminator="kind")]
    channels: int = Field(ge=1, description="channels D of a patch token")
    tokens: Literal["raw", "unit", "standardised"] = Field(
        "raw",
        description="what methods read: tokens as they are stored; scaled to mean square 1 each; or with each channel "
        "standardised by the statistics of the drawn images",
    )
    licence: str
    source: str

    @model_validator(mode="before")
    @classmethod
    def _of_parts(cls, values: Any) -> Any:
        """A concatenation takes the keys of its input from its first part, and adds up the channels of all parts."""
        if not isinstance(values, dict) or values.get("library") != "concatenation":
            return values
        named = values.get("parts")
        parts = [part for part in named if isinstance(part, dict)] if isinstance(named, list) else []
        if len(parts) < 2:
            raise ValueError("key 'parts': a concatenation names at least two encoders")
        keys = ("weights", "image_size", "interpolation", "size_mode", "mean", "std", "features")
        shared = {key: parts[0][key] for key in keys if key in parts[0]}
        if isinstance(shared.get("features"), dict):  # the channels of its layers are told by the parts
            shared["features"] = {key: value for key, value in shared["features"].items() if key != "channels"}
        channels = sum(part["channels"] for part in parts if isinstance(part.get("channels"), int))
        return {"model": "+".join(str(part.get("id")) for part in parts), "channels": channels} | shared | values

    @property
    def file(self) -> str:
        """The YAML file that messages name; for a variant the file of its base."""
        return file_of("encoders", self.id)

    @property
    def grid(self) -> int:
        """Patch tokens per side; N = grid**2."""
        if isinstance(self.features, Stages):
            return self.features.grid
        return self.image_size // self.features.patch

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers that stand side by side in a patch token. Their channels add up to :attr:`channels`."""
        features = self.features
        if self.parts:
            return tuple(layer for part in self.parts for layer in part.layers)
        if isinstance(features, Blocks):
            return (Layer(self.channels // features.groups, self.grid),) * features.groups
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
            if features.combine == "halves" and len(features.counted) % 2:
                raise ValueError(
                    f"key 'features.combine': {len(features.counted)} blocks have no halves; name one more"
                )
            if self.channels % features.groups:
                raise ValueError(
                    f"key 'channels': {self.channels} is not divided by {features.groups} blocks; "
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
