"""The built-in dataset ``textures``: crops of real photographs; defects of test images are painted, with their masks.

Runs before the manifest of this dataset and writes files in the MVTec layout, with the same bytes on every machine.
Train and test crops come from disjoint halves of each photograph. The defects (scratch, stain, hole, foreign texture,
blur) are painted, never cut and pasted, so that synthetic anomalies of the training differ from the test defects.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import skimage
from PIL import Image, ImageDraw
from scipy import ndimage
from tqdm import tqdm

from foundad.files import folder_beside

PHOTOGRAPHS = {
    "brick": "brick.png",
    "gravel": "gravel.png",
    "grass": "grass.png",
    "stars": "hubble_deep_field.jpg",
}
CROP = 128  # side of a crop in the photograph
SIZE = 256  # side of a written picture
GAP = 24  # pixels between the train half and the test half
TRAIN_IMAGES, NORMAL_TEST_IMAGES, IMAGES_A_DEFECT = 24, 25, 6
VISIBLE = 6 / 255  # smallest change of a pixel that belongs to the mask

SOURCE = """# textures

Crops of photographs that scikit-image bundles (skimage/data, see its README.txt): brick, gravel and grass from
CC0Textures/texturehaven (CC0), hubble_deep_field by NASA (public domain). Defects are painted by foundad/data/textures.py;
these files are made by the workflow and can be made again.
"""

Painter = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]


def write_textures(root: Path) -> None:
    """Write the dataset into the folder ``root``, whole or not at all; an older one is replaced."""
    with folder_beside(root) as beside:
        photographs = {name: _photograph(file) for name, file in PHOTOGRAPHS.items()}
        for number, name in enumerate(tqdm(photographs, desc="textures", disable=None, file=sys.stderr)):
            others = [photograph for other, photograph in photographs.items() if other != name]
            _write_category(beside / name, photographs[name], others, np.random.default_rng(number))
        (beside / "SOURCE.md").write_text(SOURCE, encoding="utf-8")


def _photograph(file: str) -> np.ndarray:
    path = Path(skimage.__file__).parent / "data" / file
    return np.asarray(Image.open(path).convert("RGB"), np.float32) / 255


def _write_category(
    folder: Path, photograph: np.ndarray, others: list[np.ndarray], generator: np.random.Generator
) -> None:
    middle = photograph.shape[1] // 2
    train, test = photograph[:, : middle - GAP // 2], photograph[:, middle + GAP // 2 :]
    for number in range(TRAIN_IMAGES):
        _save(_crop(train, generator), folder / "train" / "good" / f"{number:03}.png")
    for number in range(NORMAL_TEST_IMAGES):
        _save(_crop(test, generator), folder / "test" / "good" / f"{number:03}.png")
    for defect, paint in PAINTERS.items():
        for number in range(IMAGES_A_DEFECT):
            normal = _crop(test, generator)
            foreign = _crop(others[int(generator.integers(len(others)))], generator)
            # If the defect is not visible (a stain on the night sky), try another place.
            for _ in range(20):
                damaged = np.clip(paint(normal, foreign, generator), 0, 1)
                mask = np.abs(damaged - normal).max(axis=2) >= VISIBLE
                mask = ndimage.binary_fill_holes(ndimage.binary_closing(mask, iterations=2))
                if mask.sum() >= 30:
                    break
            _save(damaged, folder / "test" / defect / f"{number:03}.png")
            _save(mask.astype(np.float32), folder / "ground_truth" / defect / f"{number:03}_mask.png")


def _crop(area: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A random crop [SIZE,SIZE,3] in [0,1], with a little variation of exposure."""
    top = int(generator.integers(area.shape[0] - CROP + 1))
    left = int(generator.integers(area.shape[1] - CROP + 1))
    crop = Image.fromarray(np.rint(area[top : top + CROP, left : left + CROP] * 255).astype(np.uint8))
    pixels = np.asarray(crop.resize((SIZE, SIZE), Image.Resampling.BICUBIC), np.float32) / 255
    return np.clip(pixels * np.float32(generator.uniform(0.92, 1.08)), 0, 1)


def _save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rint(pixels * 255).astype(np.uint8)).save(path)


def _blob(generator: np.random.Generator, smallest: float, largest: float, softness: float) -> np.ndarray:
    """An irregular spot [SIZE,SIZE] in [0,1]; its radius is log-uniform between the bounds, shares of the side."""
    radius = SIZE * np.exp(generator.uniform(np.log(smallest), np.log(largest)))
    y, x = generator.uniform(radius, SIZE - radius, size=2)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    angle = np.arctan2(rows - y, columns - x)
    outline = np.ones_like(angle)
    for wave in (2, 3, 5):
        outline += generator.uniform(0, 0.35 / wave) * np.sin(wave * angle + generator.uniform(0, 2 * np.pi))
    distance = np.hypot(rows - y, columns - x) / (radius * outline)
    return np.clip((1 - distance) / softness + 0.5, 0, 1).astype(np.float32)


def _blend(normal: np.ndarray, new: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return normal + alpha[..., None] * (new - normal)


def _scratch(normal: np.ndarray, foreign: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A thin bent line, lighter or darker than the ground."""
    scale = 4  # drawn larger and reduced, for antialiasing
    canvas = Image.new("L", (SIZE * scale, SIZE * scale))
    point = generator.uniform(0.15, 0.85, size=2) * SIZE * scale
    heading, points = generator.uniform(0, 2 * np.pi), [tuple(point)]
    for _ in range(int(generator.integers(4, 9))):
        heading += generator.normal(0, 0.35)
        point = point + generator.uniform(10, 24) * scale * np.array([np.cos(heading), np.sin(heading)])
        points.append(tuple(point))
    ImageDraw.Draw(canvas).line(points, fill=255, width=int(generator.integers(2, 5)) * scale, joint="curve")
    alpha = np.asarray(canvas.resize((SIZE, SIZE), Image.Resampling.BOX), np.float32) / 255
    tone = np.full(3, 0.85 if normal.mean() < 0.5 or generator.random() < 0.4 else 0.12, np.float32)
    return _blend(normal, tone, alpha * np.float32(generator.uniform(0.5, 0.9)))


def _stain(normal: np.ndarray, foreign: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A soft-edged spot that shifts the colour and lets the structure through."""
    tint = generator.uniform(0.45, 0.8, size=3).astype(np.float32)
    veil = np.float32(generator.uniform(0.05, 0.2)) * tint[::-1]
    return _blend(normal, normal * tint + veil, _blob(generator, 0.05, 0.22, softness=0.5))


def _hole(normal: np.ndarray, foreign: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A dark spot with a lighter rim."""
    alpha = _blob(generator, 0.025, 0.1, softness=0.3)
    rim = ndimage.gaussian_filter(alpha, 4) * (1 - alpha)
    return _blend(normal, np.full(3, 0.04, np.float32), alpha * np.float32(0.9)) + 0.4 * rim[..., None]


def _foreign(normal: np.ndarray, foreign: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A piece of another photograph, brought to the mean and contrast of this one."""
    matched = (foreign - foreign.mean((0, 1))) / (foreign.std() + 0.05) * (normal.std() + 0.02) + normal.mean((0, 1))
    return _blend(normal, matched.astype(np.float32), _blob(generator, 0.06, 0.2, softness=0.15))


def _blur(normal: np.ndarray, foreign: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A spot that has lost its sharpness."""
    sigma = generator.uniform(3, 6)
    return _blend(
        normal, ndimage.gaussian_filter(normal, (sigma, sigma, 0)), _blob(generator, 0.08, 0.25, softness=0.3)
    )


PAINTERS: dict[str, Painter] = {
    "scratch": _scratch,
    "stain": _stain,
    "hole": _hole,
    "foreign": _foreign,
    "blur": _blur,
}
