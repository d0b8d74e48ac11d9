"""AnomalyDINO by its authors: their whole function, with given tokens in place of their encoder."""

import tempfile
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np

REPOSITORY, LICENCE = "dammsi/AnomalyDINO", "Apache-2.0"


class Numbered:
    """Replaces their encoder: the first pixel of a picture says which tokens it has."""

    def __init__(self, tokens: np.ndarray) -> None:
        from src.backbones import DINOv2Wrapper

        self.tokens = tokens
        self.compute_background_mask = DINOv2Wrapper.compute_background_mask.__get__(self)

    def prepare_image(self, image: np.ndarray) -> tuple[int, tuple[int, int]]:
        side = round(self.tokens.shape[1] ** 0.5)
        return int(image[0, 0, 0]) + 256 * int(image[0, 0, 1]), (side, side)

    def extract_features(self, number: int) -> np.ndarray:
        return self.tokens[number].copy()


def scores(normal: np.ndarray, tokens: np.ndarray, masking: bool) -> tuple[np.ndarray, np.ndarray]:
    """Patch scores [B,N] and image scores [B] by their function, which reads numbered pictures from a folder."""
    import cv2
    import torch
    from src import detection

    torch.cuda.synchronize = lambda *_: None  # the function would wait for a GPU
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        for number in range(len(normal) + len(tokens)):
            part = "train" if number < len(normal) else "test"
            path = Path(folder, "thing", part, "good", f"{number:05}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.full((4, 4, 3), (0, number // 256, number % 256), np.uint8))  # read as RGB
        found, *_ = detection.run_anomaly_detection(
            Numbered(np.concatenate([normal, tokens])),
            "thing",
            folder,
            n_ref_samples=len(normal),
            object_anomalies={"thing": []},
            plots_dir=folder,
            masking=masking,
            faiss_on_cpu=True,
        )
        numbers = [f"{number:05}" for number in range(len(normal), len(normal) + len(tokens))]
        maps = [np.load(Path(folder, "anomaly_maps/seed=0/thing/test/good", f"{number}.npy")) for number in numbers]
        images = np.array([found[f"good/{number}.png"] for number in numbers])
    return np.stack(maps).reshape(len(tokens), -1), images


def arrays(_: Path) -> dict[str, np.ndarray]:
    """Tokens with a bright object [B,N,D], and the scores with and without mask."""
    generator = np.random.default_rng(0)
    side = 16

    def tokens(images: int) -> np.ndarray:
        values = generator.normal(0, 1, (images, side, side, 12))
        for image in values:
            top, left = generator.integers(2, 6, 2)
            image[top : top + 8, left : left + 7] += 9
        return values.reshape(images, side * side, 12).astype(np.float32)

    normal, images = tokens(3), tokens(4)
    found = {"normal": normal, "images": images}
    for name, mask in (("plain", False), ("masked", True)):
        found[f"{name}/patches"], found[f"{name}/images"] = scores(normal, images, mask)
    return found
