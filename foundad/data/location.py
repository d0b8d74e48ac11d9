"""Where the images of a dataset lie: the folder that the paths of its manifest are relative to."""

from pathlib import Path

from foundad.config.dataset import Dataset
from foundad.data.layouts import layout_of
from foundad.errors import UserError


def image_root(dataset: Dataset) -> Path:
    """The folder that a manifest's paths are relative to.

    Raises:
        UserError: there is no such folder, or neither config nor layout names one.
    """
    root = dataset.expanded_root
    if root is None:
        require_root(dataset, f"config/datasets/{dataset.id}.yaml")
        own_root = layout_of(dataset.layout).own_root
        assert own_root is not None
        return own_root()
    if not root.is_dir():
        if dataset.generator:
            raise UserError(f"{root}: does not exist yet; make it with: foundad {dataset.generator}")
        unset = " (a variable in it is not set)" if "$" in str(root) else ""
        raise UserError(
            f"config/datasets/{dataset.id}.yaml: key 'root': there is no folder {root}{unset}; "
            f"set it, or get the images: foundad data get {dataset.id}"
        )
    return root


def require_root(dataset: Dataset, source: str) -> None:
    """Raise UserError naming ``source`` if neither config nor layout says where the images lie; touches no file."""
    if dataset.root is None and layout_of(dataset.layout).own_root is None:
        raise UserError(f"{source}: key 'root' is missing: layout '{dataset.layout}' reads a folder")
