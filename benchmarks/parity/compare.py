"""What is compared of every rival: our values beside those of public code, from the arrays that an oracle gives.

The script of this folder prints the differences; tests/baselines/test_parity.py holds them below a limit.
"""

from collections.abc import Callable, Mapping

import numpy as np

from baselines.patchcore import pooled
from foundad.config.encoder import Layer
from foundad.data.patches import turned_back
from foundad.detection.bank import BankTokens
from foundad.detection.pictures import Pictures
from foundad.detection.protocol import Detector
from foundad.detection.registry import build, settings_of
from foundad.detection.shared.coreset import greedy_k_centre
from foundad.detection.shared.grids import repeated
from foundad.device import ON_CPU
from foundad.metrics.maps import upsample
from foundad.scores import top_k_mean

Arrays = Mapping[str, np.ndarray]
Compared = dict[str, tuple[np.ndarray, np.ndarray]]  # what -> ours, theirs


def difference(own: np.ndarray, theirs: np.ndarray) -> float:
    """Largest difference relative to the largest value of ``theirs``."""
    return float(np.abs(own.astype(np.float64) - theirs).max() / np.abs(theirs).max())


def fitted(name: str, normal: np.ndarray, layers: tuple[Layer, ...] = (), **keys: object) -> Detector:
    """The detector ``name`` with these ``keys``, fitted on ``normal`` [S,N,D] of one category."""
    settings = settings_of(name).model_validate({"id": name, "title": name, "detector": name} | keys)
    detector = build(settings, 0, ON_CPU)
    detector.fit(BankTokens(normal, ["thing"] * len(normal), normal[:0], normal[:0], [], layers=layers))
    return detector


def tokens_of(maps: np.ndarray) -> np.ndarray:
    """Feature maps [B,C,H,W] as patch tokens [B,H*W,C]."""
    return np.ascontiguousarray(maps.reshape(*maps.shape[:2], -1).transpose(0, 2, 1))


def joined(arrays: Arrays, part: str, names: list[str]) -> tuple[np.ndarray, tuple[Layer, ...]]:
    """Layers ``part/NAME`` [B,C,H,W], the finest first, side by side as an encoder with repeated tokens gives them."""
    parts = [arrays[f"{part}/{name}"] for name in names]
    grid = parts[0].shape[2]
    layers = tuple(Layer(maps.shape[1], maps.shape[2]) for maps in parts)
    return np.concatenate([repeated(tokens_of(maps), grid) for maps in parts], axis=2), layers


def anomalydino(arrays: Arrays) -> Compared:
    """Patch and image scores, with and without mask."""
    found: Compared = {}
    for name, mask in (("plain", False), ("masked", True)):
        scores = fitted("anomalydino", arrays["normal"], mask=mask).score_images(arrays["images"])[0]
        found[f"patch scores, {name}"] = scores, arrays[f"{name}/patches"]
        found[f"image scores, {name}"] = top_k_mean(scores, 1, share=0.01), arrays[f"{name}/images"]
    return found


def patchcore(arrays: Arrays) -> Compared:
    """Patch vectors of two layers; distances; the coreset of the same projection from the same start."""
    grid = arrays["images/layer2"].shape[2]
    parts = [[tokens_of(arrays[f"{part}/{name}"]) for name in ("layer2", "layer3")] for part in ("normal", "images")]
    dimensions = arrays["vectors"].shape[1]
    images, layers = joined(arrays, "images", ["layer2", "layer3"])
    normal, _ = joined(arrays, "normal", ["layer2", "layer3"])
    vectors = [pooled([part[number] for part in parts[1]], 3, dimensions, grid) for number in range(len(images))]
    keys = {"neighbourhood": 3, "dimensions": dimensions}
    one, three = (fitted("patchcore", normal, layers, neighbours=count, **keys) for count in (1, 3))
    scores = one.score_images(images)[0]
    # Their index gives squared distances; the paper's are distances.
    chosen = greedy_k_centre(arrays["coreset/vectors"], len(arrays["coreset/chosen"]), int(arrays["coreset/chosen"][0]))
    return {
        "patch vectors": (np.concatenate(vectors), arrays["vectors"]),
        "patch scores, squared": (scores**2, arrays["patches"]),
        "image scores, squared": (scores.max(axis=1) ** 2, arrays["scores"]),
        "distances to 3 neighbours, squared": (
            three.memory.nearest(np.concatenate(vectors), 3)[0] ** 2,  # type: ignore[attr-defined]
            arrays["distances"],
        ),
        "rows of the coreset": (chosen, arrays["coreset/chosen"]),
    }


def padim(arrays: Arrays) -> Compared:
    """Mahalanobis distances; the oracle adds 1e-5 to the published ridge of 0.01."""
    detector = fitted("padim", tokens_of(arrays["normal"]), ridge=0.01 + 1e-5)
    return {"patch scores": (detector.score(tokens_of(arrays["images"])), arrays["patches"])}


def spade(arrays: Arrays) -> Compared:
    """Image scores, and the mean of the layers' distance maps at the finest grid."""
    names = ["layer1", "layer2", "layer3", "avgpool"]
    normal, layers = joined(arrays, "normal", names)
    images, _ = joined(arrays, "images", names)
    patches, scores = fitted("spade", normal, layers, neighbours=int(arrays["neighbours"])).score_images(images)
    assert scores is not None
    grid = layers[0].grid
    theirs = np.mean([upsample(arrays[f"distances/{name}"], (grid, grid)) for name in names[:3]], axis=0)
    return {"image scores": (scores, arrays["scores"]), "patch scores": (patches, theirs.reshape(len(images), -1))}


def subspacead(arrays: Arrays) -> Compared:
    """Number of components and squared residuals."""
    detector = fitted("subspacead", arrays["normal"], variance=0.99)
    count = np.array(len(detector.learned["components"]))
    return {
        "components": (count, arrays["components"]),
        "patch scores": (detector.score(arrays["images"]), arrays["patches"]),
    }


def fastrecon(arrays: Arrays) -> Compared:
    """Residuals, where all tokens reconstruct."""
    normal, layers = joined(arrays, "normal", ["layer2", "layer3"])
    images, _ = joined(arrays, "images", ["layer2", "layer3"])
    found = fitted("fastrecon", normal, layers, neighbourhood=3, coreset=1.0, weight=2.0).score_images(images)[0]
    return {
        "patch scores": (found, arrays["patches"]),
        "image scores": (found.max(axis=1), arrays["scores"]),
    }


def rad(arrays: Arrays) -> Compared:
    """Distances of several layers, where all drawn images are searched: everywhere and nearby."""
    layers = tuple(Layer(arrays["normal"].shape[2] // 2, round(arrays["normal"].shape[1] ** 0.5)) for _ in range(2))
    found: Compared = {}
    for name, radius in (("everywhere", None), ("radius 1", 1), ("radius 2", 2)):
        detector = fitted("rad", arrays["normal"], layers, radius=radius, neighbours=None)
        found[f"patch scores, {name}"] = (
            detector.score_pictures(Pictures(arrays["images"]))[0],
            arrays[f"patches/{name}"],
        )
    return found


def visionad(arrays: Arrays) -> Compared:
    """The sum of the maps of three query views; every view has a detector of its own."""
    total = np.zeros_like(arrays["patches"])
    grid = round(total.shape[1] ** 0.5)
    for view in ("as-is", "flip-vertical", "clamp"):
        detector = fitted("visionad", arrays[f"normal/{view}"], class_aware=False)
        scores = detector.score_pictures(Pictures(arrays[f"images/{view}"]))[0]
        if view != "as-is":
            scores = turned_back(scores.reshape(len(scores), grid, grid), view).reshape(scores.shape)
        total += scores
    return {"patch scores": (total, arrays["patches"])}


COMPARISONS: dict[str, Callable[[Arrays], Compared]] = {
    "anomalydino": anomalydino,
    "fastrecon": fastrecon,
    "padim": padim,
    "patchcore": patchcore,
    "rad": rad,
    "rad_authors": rad,
    "spade": spade,
    "subspacead": subspacead,
    "visionad": visionad,
}
