"""Where the images of a dataset lie: the folder that the paths of its manifest are relative to."""

from pathlib import Path

from foundad.config import Dataset
from foundad.data.layouts import elpv
from foundad.errors import UserError


def image_root(dataset: Dataset) -> Path:
    """The folder that a manifest's paths are relative to.

    Raises:
        UserError: it is not there.
    """
    if dataset.layout == "elpv" and dataset.root is None:
        return elpv.package_root()
    root = dataset.expanded_root
    assert root is not None
    if not root.is_dir():
        if dataset.generator:
            raise UserError(f"{root}: is not made yet; make it with: foundad {dataset.generator}")
        unset = " (a variable in it is not set)" if "$" in str(root) else ""
        raise UserError(
            f"config/datasets/{dataset.id}.yaml: key 'root': there is no folder {root}{unset}; "
            f"set it, or get the images: foundad data get {dataset.id}"
        )
    return root
