"""The Detector protocol, and the Model that a cell saves: detectors, feature statistics and how to score with them.

Stands at the end of ``fit`` and behind ``foundad predict``. Works on numpy arrays, so that a method without torch never
imports it. It does not train anything and does not read images.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from foundad import config, registry
from foundad.errors import UserError
from foundad.files import write_beside

POOLED = "pooled"


@dataclass(frozen=True)
class BankTokens:
    """What a detector learns from: patch tokens as float32 or float16 arrays.

    normal: [S,N,D] of the drawn images as they are. clean, synthetic: [P,N,D] of augmented drawn images before and after
    CutPaste, pair by pair. The categories name each row.
    """

    normal: np.ndarray
    normal_categories: list[str]
    clean: np.ndarray
    synthetic: np.ndarray
    pair_categories: list[str]

    @classmethod
    def load(cls, path: Path) -> tuple["BankTokens", str]:
        """The tokens that the stage ``bank`` wrote, and the hash of the draw they come from."""
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata()
            normal, clean, synthetic = (file.get_tensor(key) for key in ("normal", "clean", "synthetic"))
        categories = json.loads(metadata["normal_categories"])
        return cls(normal, categories, clean, synthetic, json.loads(metadata["pair_categories"])), metadata["draw"]

    @classmethod
    def empty(cls, tokens: int, channels: int) -> "BankTokens":
        """No images at all, for controls that learn nothing."""
        none = np.empty((0, tokens, channels), np.float16)
        return cls(none, [], none, none, [])

    def of(self, category: str) -> "BankTokens":
        """The part of one category."""
        normal = [i for i, name in enumerate(self.normal_categories) if name == category]
        pairs = [i for i, name in enumerate(self.pair_categories) if name == category]
        return BankTokens(
            self.normal[normal], [category] * len(normal), self.clean[pairs], self.synthetic[pairs], [category] * len(pairs)
        )

    def standardised(self, statistics: "ChannelStatistics") -> "BankTokens":
        """The same tokens as float32, standardised per channel."""
        return BankTokens(
            statistics.apply(self.normal),
            self.normal_categories,
            statistics.apply(self.clean),
            statistics.apply(self.synthetic),
            self.pair_categories,
        )


@dataclass(frozen=True)
class ChannelStatistics:
    """Mean and deviation of every channel, [D] float32: zero and one where the encoder asks for no standardisation."""

    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, tokens: np.ndarray, standardise: bool) -> "ChannelStatistics":
        """Statistics of ``tokens`` [S,N,D]; a channel that does not vary keeps its scale."""
        if not standardise or not len(tokens):
            channels = tokens.shape[-1]
            return cls(np.zeros(channels, np.float32), np.ones(channels, np.float32))
        flat = tokens.reshape(-1, tokens.shape[-1]).astype(np.float64)
        deviation = flat.std(axis=0)
        deviation[deviation < 1e-6] = 1.0
        return cls(flat.mean(axis=0).astype(np.float32), deviation.astype(np.float32))

    def apply(self, tokens: np.ndarray) -> np.ndarray:
        """``tokens`` [B,N,D] as standardised float32."""
        return (tokens.astype(np.float32) - self.mean) / self.deviation


class Detector(Protocol):
    """One method: built from (settings, seed, device), it learns from a bank and scores patch tokens."""

    def fit(self, bank: BankTokens) -> dict[str, Any]:
        """Learn from standardised tokens; returns what the record should hold (losses, sizes)."""

    def score(self, tokens: np.ndarray) -> np.ndarray:
        """Patch scores [B,N] float32, higher = more anomalous, of standardised tokens [B,N,D] float32."""

    def state(self) -> dict[str, np.ndarray]:
        """All that :meth:`score` needs, as arrays."""

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take back what :meth:`state` gave."""


class Model:
    """A fitted method with everything scoring needs: what ``model.safetensors`` of a cell holds."""

    def __init__(
        self,
        method: config.Method,
        encoder: config.Encoder,
        seed: int,
        top_k: int,
        device: str = "cpu",
    ) -> None:
        self.method = method
        self.encoder = encoder
        self.seed = seed
        self.top_k = top_k
        self.device = device
        self.parts: dict[str, tuple[ChannelStatistics, Detector]] = {}

    def fit(self, bank: BankTokens) -> dict[str, Any]:
        """Fit one detector on the whole bank, or one a category (key ``scope``); returns the detectors' records."""
        by_category = self.method.scope == "category"
        names = sorted(set(bank.normal_categories)) if by_category else [POOLED]
        record = {}
        for name in names:
            part = bank.of(name) if by_category else bank
            statistics = ChannelStatistics.of(part.normal, self.encoder.standardise)
            detector = registry.build(self.method, self.seed, self.device)
            record[name] = detector.fit(part.standardised(statistics))
            self.parts[name] = (statistics, detector)
        return record

    def score(self, tokens: np.ndarray, category: str | None) -> np.ndarray:
        """Patch scores [B,N] float32 of raw patch tokens [B,N,D].

        Raises:
            UserError: the model has one detector a category and none for ``category``.
        """
        statistics, detector = self.parts[self._part(category)]
        return detector.score(statistics.apply(tokens))

    def image_scores(self, patch_scores: np.ndarray) -> np.ndarray:
        """Image scores [B] float32: mean of the ``top_k`` largest patch scores [B,N] (paper section 3)."""
        count = min(self.top_k, patch_scores.shape[1])
        largest = np.partition(patch_scores, patch_scores.shape[1] - count, axis=1)[:, -count:]
        return np.sort(largest, axis=1).mean(axis=1, dtype=np.float64).astype(np.float32)

    def _part(self, category: str | None) -> str:
        if POOLED in self.parts:
            return POOLED
        if category not in self.parts:
            raise UserError(f"category '{category}': this model knows {', '.join(self.parts)}; name one with --category")
        return str(category)

    def save(self, path: Path) -> None:
        """Write the model, whole or not at all; settings travel with it, so that it is usable by itself."""
        arrays = dict(self._arrays())
        metadata = {
            "method": json.dumps(config.dump(self.method), sort_keys=True),
            "encoder": json.dumps(config.dump(self.encoder), sort_keys=True),
            "seed": str(self.seed),
            "top_k": str(self.top_k),
            "parts": json.dumps(list(self.parts)),
        }
        with write_beside(path) as temporary:
            save_file(arrays, temporary, metadata=metadata)

    def _arrays(self) -> Iterator[tuple[str, np.ndarray]]:
        for name, (statistics, detector) in self.parts.items():
            yield f"{name}/mean", statistics.mean
            yield f"{name}/deviation", statistics.deviation
            for key, array in detector.state().items():
                yield f"{name}/state/{key}", np.ascontiguousarray(array)

    @classmethod
    def load(cls, path: Path, device: str = "cpu") -> "Model":
        """Read what :meth:`save` wrote; nothing in the file is executed."""
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata()
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - safetensors is no dict
        values = json.loads(metadata["method"])
        method = registry.settings_of(values["detector"]).model_validate(values)
        encoder = config.Encoder.model_validate_json(metadata["encoder"])
        model = cls(method, encoder, int(metadata["seed"]), int(metadata["top_k"]), device)
        for name in json.loads(metadata["parts"]):
            statistics = ChannelStatistics(arrays[f"{name}/mean"], arrays[f"{name}/deviation"])
            detector = registry.build(method, model.seed, device)
            prefix = f"{name}/state/"
            detector.restore({k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)})
            model.parts[name] = (statistics, detector)
        return model
