"""MuSc beside the public implementation's arithmetic: the same random tokens, scores, time and peak memory.

    git clone https://github.com/xrli-U/MuSc && python benchmarks/musc.py MuSc
    python benchmarks/musc.py MuSc --golden tests/golden/musc.npz

Reads the modules LNAMD, MSM and RsCIN of a checkout (MIT licence); none of its code is part of this project. Each side runs
in a process of its own on one thread, and gets the same tokens. Exits with 1 if a score differs by more than 1e-5 of the
largest, or if ours needs more time or memory. With --golden, writes what the public modules say of a small case instead.
"""

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import Figures

from baselines.musc.detector import Detector
from baselines.musc.settings import Settings
from foundad.config.encoder import Layer
from foundad.detection.bank import BankTokens
from foundad.detection.pictures import Pictures

LIMIT = 1e-5
WIDTHS, SHARE = (1, 3, 5), 0.3
SMALL = {"images": 21, "tokens": 36, "channels": 16, "layers": 3}
SIDE, CLASS_CHANNELS = 84, 24  # of the map and of the class tokens
RESCORED = {"cosine": [1, 2, 3], "product": [1, 8, 9]}


def case(images: int, tokens: int, channels: int, layers: int) -> tuple[np.ndarray, np.ndarray]:
    """Random tokens [n,N,layers*channels] and class tokens [n,C], float32: images look alike, and every fifth has a spot."""
    generator = np.random.default_rng(0)
    common = generator.normal(size=(1, tokens, layers * channels))
    found = common + generator.normal(0, 0.7, (images, tokens, layers * channels))
    found[::5, : max(1, tokens // 16)] += 2
    return found.astype(np.float32), generator.normal(1, 1, (images, CLASS_CHANNELS)).astype(np.float32)


def module(checkout: Path, name: str) -> Any:
    """A module of the public implementation."""
    path = checkout / f"models/modules/{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise SystemExit(f"{path}: there is no such file; name a checkout of github.com/xrli-U/MuSc")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def public(checkout: Path, tokens: np.ndarray, layers: int, widths: tuple[int, ...]) -> np.ndarray:
    """Patch scores [n,N] by the public modules, put together as its main program does."""
    channels = tokens.shape[2] // layers
    nothing = np.zeros((len(tokens), 1, channels), np.float32)  # it takes the first token for the class token
    parts = [torch.from_numpy(np.concatenate([nothing, part], 1)) for part in np.split(tokens, layers, axis=2)]
    aggregate, score = module(checkout, "_LNAMD").LNAMD, module(checkout, "_MSM").MSM
    found = []
    for width in widths:
        maker = aggregate(device="cpu", r=width, feature_dim=channels, feature_layer=list(range(layers)))
        vectors = maker._embed(parts)
        vectors /= vectors.norm(dim=-1, keepdim=True)
        own = [score(vectors[:, :, layer].contiguous(), "cpu", 0, SHARE) for layer in range(layers)]
        found.append(torch.stack(own).mean(0))
    return torch.stack(found).mean(0).numpy()


def public_images(checkout: Path, scores: np.ndarray, described: np.ndarray) -> dict[str, np.ndarray]:
    """Image scores [n] by the public re-scoring, for both kinds of similarity."""
    side = round(scores.shape[1] ** 0.5)
    maps = torch.from_numpy(scores).view(-1, 1, side, side)
    maps = torch.nn.functional.interpolate(maps, size=SIDE, mode="bilinear", align_corners=True)
    largest = maps.numpy().reshape(len(scores), -1).max(-1)
    unit = described / np.linalg.norm(described, axis=1, keepdims=True)
    tokens = {"cosine": unit, "product": described}
    again = module(checkout, "_RsCIN").RsCIN
    return {name: np.asarray(again(largest, list(tokens[name]), k_list=sizes)) for name, sizes in RESCORED.items()}


def ours(tokens: np.ndarray, described: np.ndarray, layers: int, widths: tuple[int, ...], similarity: str) -> Any:
    """Patch scores and image scores by the detector."""
    keys = {"neighbourhoods": list(widths), "share": SHARE, "similarity": similarity, "score_size": SIDE}
    settings = Settings.model_validate({"id": "musc", "title": "MuSc", "neighbours": RESCORED[similarity]} | keys)
    detector, grid = Detector(settings, 0), round(tokens.shape[1] ** 0.5)
    none = np.empty((0, *tokens.shape[1:]), np.float32)
    layer = Layer(tokens.shape[2] // layers, grid)
    detector.fit(BankTokens(none, [], none, none, [], layers=(layer,) * layers))
    return detector.score_pictures(Pictures(tokens, arrays={"class": described}))


def write_golden(checkout: Path, out: Path) -> None:
    """What the public modules say of the small case."""
    tokens, described = case(**SMALL)
    scores = public(checkout, tokens, SMALL["layers"], WIDTHS).astype(np.float32)
    np.savez_compressed(out, patch=scores, **public_images(checkout, scores, described))


def measure(side: str, arguments: argparse.Namespace) -> None:
    """Scores of one side, and its seconds and largest memory beyond that of the tokens, as a file."""
    torch.set_num_threads(1)
    tokens, described = case(arguments.images, arguments.tokens, arguments.channels, arguments.layers)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started, widths = time.process_time(), tuple(arguments.widths)
    if side == "public":
        scores = public(arguments.checkout, tokens, arguments.layers, widths)
    else:
        scores = ours(tokens, described, arguments.layers, widths, "cosine")[0]
    seconds = time.process_time() - started
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    np.savez(arguments.out, scores=scores, facts=json.dumps([seconds, memory]))


def compare(arguments: argparse.Namespace) -> int:
    """Run both sides and print them beside each other; returns the exit code."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for side in ("ours", "public"):
            out = Path(folder, f"{side}.npz")
            command = [sys.executable, *sys.argv, "--side", side, "--out", str(out)]
            subprocess.run(command, check=True, stderr=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
            with np.load(out) as stored:
                found[side] = (stored["scores"], *json.loads(str(stored["facts"])))
    (mine, seconds, memory), (theirs, their_seconds, their_memory) = found["ours"], found["public"]
    apart = float(np.abs(mine - theirs).max() / np.abs(theirs).max())
    size = f"{arguments.images} images of {arguments.tokens} tokens, {arguments.channels} channels, {arguments.layers} layers"
    figures = Figures("musc", "seconds of one thread, and bytes beyond the tokens themselves")
    figures.add(size, seconds, their_seconds, bar="no slower than the public arithmetic", ratio=seconds / their_seconds)
    bar = "no larger than the public arithmetic's"
    figures.add("peak memory", memory, their_memory, bar=bar, ratio=memory / their_memory)
    figures.add(
        "largest difference of a patch score, of the largest score", apart, bar="at most 1e-5", ratio=apart / LIMIT
    )
    figures.finish()
    return int(apart > LIMIT or seconds > their_seconds or memory > their_memory)


def main() -> int:
    """Parse the command line and compare, measure one side, or write the golden arrays."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path, help="of github.com/xrli-U/MuSc")
    for name, value in {"images": 200, "tokens": 1024, "channels": 64, "layers": 1}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--widths", type=int, nargs="+", default=[3], help="sides of neighbourhoods (default: 3)")
    parser.add_argument("--golden", type=Path, metavar="FILE")
    parser.add_argument("--side", choices=["ours", "public"], help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.golden:
        write_golden(arguments.checkout, arguments.golden)
    elif arguments.side:
        measure(arguments.side, arguments)
    else:
        return compare(arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
