"""Small datasets, encoders and config folders that the tests share; no test needs a download."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

ROOT = Path(__file__).parent.parent


def picture(seed: int, size: int = 48, spot: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """A noisy grey picture, with a bright square and its mask if ``spot``."""
    generator = np.random.default_rng(seed)
    pixels = generator.normal(110, 12, (size, size, 3)).clip(0, 255).astype(np.uint8)
    mask = np.zeros((size, size), np.uint8)
    if spot:
        top, left = generator.integers(4, size - 16, 2)
        pixels[top : top + 12, left : left + 12] = 250
        mask[top : top + 12, left : left + 12] = 255
    return pixels, mask


def save(array: np.ndarray, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def write_category(folder: Path, seed: int = 0, train: int = 5, test: int = 4) -> None:
    """One category in the layout of MVTec AD."""
    for number in range(train):
        save(picture(seed + number)[0], folder / f"train/good/{number:03}.png")
    for number in range(test):
        save(picture(seed + 100 + number)[0], folder / f"test/good/{number:03}.png")
        pixels, mask = picture(seed + 200 + number, spot=True)
        save(pixels, folder / f"test/spot/{number:03}.png")
        save(mask, folder / f"ground_truth/spot/{number:03}_mask.png")


TINY_ENCODER = {
    "title": "Tiny",
    "library": "timm",
    "model": "tf_efficientnet_lite0",
    "weights": "random",
    "image_size": 64,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "features": {"kind": "stages", "strides": [8], "pool": 3, "grid": 8},
    "channels": 40,
    "tokens": "unit",
    "licence": "none",
    "source": "random numbers",
}


def write_yaml(path: Path, values: dict) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture(scope="session")
def browser() -> Iterator:
    """One headless Chromium for all tests of pages."""
    import browsers

    yield from browsers.started()


@pytest.fixture
def dataset_root(tmp_path: Path) -> Path:
    """Two categories of tiny pictures."""
    root = tmp_path / "data"
    write_category(root / "bolt", 0)
    write_category(root / "cloth", 1000)
    return root


@pytest.fixture
def project(tmp_path: Path, dataset_root: Path) -> Path:
    """A folder with the real Snakefile and rules, and a config of one tiny dataset, encoder and experiment."""
    folder = tmp_path / "project"
    shutil.copytree(ROOT / "workflow", folder / "workflow")
    shutil.copytree(ROOT / "profiles", folder / "profiles")
    shutil.copy(ROOT / "Snakefile", folder)
    methods = folder / "config/methods"
    methods.mkdir(parents=True)
    for name in ("knn", "random", "oracle"):
        shutil.copy(ROOT / f"config/methods/{name}.yaml", methods)
    quick = {"title": "FoundAD", "detector": "foundad", "training": {"steps": 4}, "bank": {"pairs": 8}}
    write_yaml(methods / "foundad.yaml", quick | {"projector": {"depth": 1, "width": 32}})
    write_yaml(
        folder / "config/datasets/tiny.yaml",
        {"title": "Tiny set", "layout": "mvtec", "root": str(dataset_root), "licence": "CC0", "source": "drawn here"},
    )
    write_yaml(folder / "config/encoders/tiny.yaml", TINY_ENCODER)
    write_yaml(
        folder / "config/experiments/small.yaml",
        {
            "title": "Small",
            "cells": [
                {
                    "datasets": ["tiny"],
                    "encoders": ["tiny"],
                    "methods": ["random", "oracle", "knn", "foundad"],
                    "shots": [1, 2],
                    "seeds": [0, 1],
                }
            ],
            "tables": {
                "main": {
                    "caption": "All methods",
                    "rows": ["method"],
                    "columns": ["dataset", "shots"],
                    "metrics": ["i_auroc", "strict/p_auroc"],
                },
                "categories": {
                    "caption": "By category",
                    "rows": ["category"],
                    "columns": ["method"],
                    "metrics": ["i_auroc"],
                    "where": {"shots": [2]},
                },
            },
            "figures": {"shots": {"kind": "curve", "title": "Shots", "x": "shots", "metrics": ["i_auroc"]}},
        },
    )
    write_yaml(folder / "config/config.yaml", {"experiments": ["small"], "device": "cpu"})
    return folder
