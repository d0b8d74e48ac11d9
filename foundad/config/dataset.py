"""Keys of a dataset: config/datasets/*.yaml."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from foundad import discovery
from foundad.config.base import Id, Sha256, Strict, expanded

Counts = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=2, max_length=3)]
Url = Annotated[str, Field(pattern=r"^https?://[^\s/]+/\S*$")]
if TYPE_CHECKING:
    LayoutName = str
else:  # one file each
    LayoutName = Literal[tuple(discovery.layouts())]


class Download(Strict):
    """Where ``foundad data get`` finds a dataset: on its owner's server, or in an archive that people fetch themselves."""

    page: Url = Field(description="the owner's page, with the full licence and the way to the archive")
    archive: str | None = Field(
        None,
        pattern=r"^[^/\\\s.][^/\\\s]*$",
        description="file name of the archive as its owner distributes it, if there is one",
    )
    url: Url | None = Field(
        None, description="of the archive; absent where its owner asks for a form or a log-in first"
    )
    sha256: Sha256 | None = Field(None, description="of the archive; where it is absent, the download records it")

    @model_validator(mode="after")
    def _named(self) -> "Download":
        if self.archive is None and (self.url or self.sha256):
            raise ValueError("key 'archive' is missing: name the file that url and sha256 are of")
        return self


class Dataset(Strict):
    """One dataset: where its images lie, in which directory layout, and under which licence."""

    id: Id
    title: str
    layout: LayoutName
    root: str | None = Field(None, description="folder of the images; $NAME is taken from the environment")
    categories: list[str] | dict[str, str] | None = Field(
        None, description="names, or name -> folder below the root; absent = every folder, sorted"
    )
    generator: Literal["textures"] | None = Field(
        None, description="the workflow makes this dataset itself; it has no root then"
    )
    strict: bool = Field(True, description="false leaves broken files out instead of stopping")
    counts: dict[str, Counts] = Field(
        default_factory=dict,
        description="published numbers per category: images for draws, normal and defective test images; "
        "or two numbers, all normal and all defective images, where the set is published without a split",
    )
    draws: str | None = Field(
        None,
        description="CSV with the columns category and image, and if wanted shots and seed: its images are drawn instead "
        "of random ones",
    )
    mask_threshold: int = Field(0, ge=0, le=254, description="grey value above which a mask shows a defect")
    max_pixels: int = Field(
        89_478_485, ge=1, le=1 << 30, description="pictures with more pixels are refused before they are decoded"
    )
    top_k: int = Field(10, ge=1, description="number of patches averaged into the image score (paper: 10, VisA 6)")
    download: Download | None = Field(None, description="only foundad data get reads it")
    licence: str
    source: str

    @property
    def folders(self) -> dict[str, str] | None:
        """Category name -> folder below the root; None = every folder is a category."""
        if isinstance(self.categories, list):
            return {name: name for name in self.categories}
        return self.categories

    @property
    def expanded_root(self) -> Path | None:
        """The root with environment variables and ~ replaced; unset variables stay as they are written."""
        return None if self.root is None else expanded(self.root)

    @property
    def expanded_draws(self) -> Path:
        """The list of draws with environment variables and ~ replaced."""
        return expanded(self.draws or "")
