"""Keys of a bank: which encoded images a method learns from, how they are augmented, and how anomalies are made on them."""

from typing import Annotated, Literal

from pydantic import Field

from foundad.config.base import Fraction, Strict

Range = tuple[float, float]
Share = Annotated[float, Field(gt=-1, lt=1)]


class Augmentation(Strict):
    """How drawn normal images are augmented: on the original picture, before it is resized (code of the paper)."""

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
    """How CutPaste anomalies are made (Li et al., CVPR 2021); the ranges are those of the paper's released code."""

    foreground: Literal["adaptive", "whole", "by-category"] = Field(
        "adaptive",
        description="where anomalies may lie: on what is found in each picture, anywhere, or by the released code's table "
        "of category names",
    )
    placement: Literal["covered", "corner"] = Field(
        "covered",
        description="what must lie on the foreground: half of the piece, or only its top-left corner (released code)",
    )
    normal_probability: Fraction = Field(0.5, description="share of large rectangles; the other anomalies are scars")
    area_range: Range = Field((0.02, 0.25), description="area of a rectangle as a share of the picture")
    aspect_range: Range = Field((0.3, 1 / 0.3), description="width of a rectangle over its height")
    scar_width_range: Range = Field((2, 16), description="in pixels")
    scar_height_range: Range = Field((10, 25), description="in pixels")
    scar_angle: float = Field(45.0, ge=0, le=180, description="largest angle to either side, in degrees")
    scar_corners: Literal["left-out", "pasted"] = Field(
        "left-out",
        description="the corners of a rotated scar's frame; the released code pastes them in the mean colour",
    )
    jitter: float = Field(
        0.5, ge=0, le=0.5, description="strength of the jitter of brightness, contrast, saturation and hue"
    )
    jitter_space: Literal["unit", "normalised"] = Field(
        "unit",
        description="colours that are jittered: in [0,1], or normalised, which loses all that is darker than the mean",
    )


QueryView = Literal["flip-horizontal", "flip-vertical", "clamp"]


class Bank(Strict):
    """The patch tokens that a method learns from: of the drawn images, and of pairs of clean and damaged pictures."""

    pairs: int = Field(64, ge=0, description="number of clean/synthetic pairs, spread evenly over the drawn images")
    rotations: int = Field(
        1,
        ge=1,
        exclude_if=lambda v: v == 1,
        description="number of evenly spaced rotations of each drawn image, 0 degrees included",
    )
    flips: list[Literal["horizontal", "vertical"]] = Field(
        default_factory=list, exclude_if=lambda v: not v, description="the drawn images are also flipped this way"
    )
    angles: list[float] = Field(
        default_factory=list,
        exclude_if=lambda v: not v,
        description="further rotations of each drawn image, counter-clockwise, in degrees",
    )
    shifts: list[tuple[Share, Share]] = Field(
        default_factory=list,
        exclude_if=lambda v: not v,
        description="the drawn images are also moved right and down by these shares of their width and height",
    )
    greyscale: bool = Field(False, exclude_if=lambda v: not v, description="the drawn images are also shown in grey")
    queries: list[QueryView] = Field(
        default_factory=list,
        exclude_if=lambda v: not v,
        description="further views of every picture; each is scored against the drawn images under the same view, and the "
        "maps are summed",
    )
    augmentation: Augmentation = Augmentation()
    synthesis: Synthesis = Synthesis()

    @property
    def views(self) -> int:
        """How many support views of each drawn image the bank holds, the unchanged image among them."""
        return self.rotations + len(self.flips) + len(self.angles) + len(self.shifts) + self.greyscale

    def passes(self, drawn: int) -> int:
        """Number of pictures that are encoded to make the bank of ``drawn`` images.

        All views of drawn images and the clean pictures of all pairs are encoded once per query view and once unchanged. The
        synthetic pictures are encoded once.
        """
        views = 1 + len(self.queries)
        return views * (drawn * self.views + self.pairs) + self.pairs
