"""Compares our training step of the default projector with explicit-softmax attention and an unfused AdamW.

    OMP_NUM_THREADS=1 python benchmarks/training_step.py [--shape 8 1024 768] [--rounds 3] [--threads 1]

A step is dropout, forward, loss, backward, optimiser. The straightforward way is the same projector with attention as a
product, a softmax and a product, and torch.optim.AdamW one tensor at a time. The floor is the step's matrix products
alone (embedding, blocks, head, attention; forward and twice backward), as single products of their sizes. One more line
has the products of the linear layers and the attention as torch computes it, forward and backward. Times are medians of
interleaved rounds. benchmarks/precision.py measures what bfloat16 does to the AUROC.

All ways are measured twice. With glibc's default memory, as in a script, large arrays go back to the kernel and every
page of them is paid for anew. In the workflow's jobs (Snakefile), the process keeps its memory. "Each as it runs" is
ours in a job and the straightforward way in a script. The lines for either memory alone show how much of the gain is
due to memory.
"""

import argparse
import ctypes
import os
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from harness import Figures, medians
from torch import Tensor

from foundad.detection.shared.training import AdamW, drop_features
from foundad.device import Precision, arithmetic, compiled
from foundad.method.detector import projection_loss
from foundad.method.projector import Attention, Projector, attention
from foundad.method.settings import Projector as ProjectorSettings
from foundad.method.settings import default_width

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h


class ExplicitAttention(Attention):
    """Attention that computes the whole matrix of weights."""

    def forward(self, tokens: Tensor, inside: Tensor | None = None) -> Tensor:
        assert inside is None, "no token of the benchmark is padding"
        B, N, C = tokens.shape
        q, k, v = self.qkv(tokens).reshape(B, N, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) * (C // self.heads) ** -0.5).softmax(dim=-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(B, N, C))


def built(target: Tensor) -> Projector:
    """The default projector for tokens [B,N,D], in training mode, on their device."""
    _, tokens, channels = target.shape
    generator = torch.Generator().manual_seed(0)
    return Projector(channels, tokens, ProjectorSettings(), generator=generator).train().to(target.device)


def our_step(
    target: Tensor, inputs: Tensor, precision: Precision, fast: bool = False, generator: torch.Generator | None = None
) -> Callable[[], None]:
    """A step as the trainer does it, its loop's contexts apart; ``fast``: compiled; ``generator``: of the dropout."""
    projector = built(target)
    project = compiled(projector) if fast else projector
    optimiser = AdamW(projector.parameters(), 1e-4)
    noise = generator or torch.Generator(target.device).manual_seed(1)

    def step() -> None:
        dropped = drop_features(inputs, 0.2, noise)
        with arithmetic(target.device, precision):
            predicted = project(dropped)
        projection_loss(predicted.float(), target, "l2").backward()
        optimiser.step(1e-3)

    return step


def straightforward_step(target: Tensor, inputs: Tensor) -> Callable[[], None]:
    """The same with explicit attention and torch's plain optimiser."""
    projector = built(target)
    for block in projector.blocks:
        block.attn.__class__ = ExplicitAttention
    optimiser = torch.optim.AdamW(projector.parameters(), lr=1e-3, weight_decay=1e-4, foreach=False, fused=False)

    def step() -> None:
        optimiser.zero_grad()
        loss = F.mse_loss(projector(F.dropout(inputs, 0.2)), target)
        loss.backward()
        optimiser.step()
        loss.item()

    return step


def products(
    shape: tuple[int, int, int], dtype: torch.dtype, device: str = "cpu", attended: bool = True
) -> tuple[Callable[[], None], float]:
    """All matrix products of a step and their number of operations (two per multiply-add).

    ``attended``: with those of the attention; else only those of linear layers.
    """
    B, N, D = shape
    settings = ProjectorSettings()
    width = default_width(D)
    heads = width // 32
    hidden = int(width * settings.mlp_ratio)
    rows = B * N
    sizes = [(rows, D, width, 1), (rows, width, D, 1)]
    sizes += [(rows, width, 3 * width, settings.depth), (rows, width, width, settings.depth)]
    sizes += [(rows, width, hidden, settings.depth), (rows, hidden, width, settings.depth)]

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=dtype, device=device)

    linear = [(randn(m, k), randn(k, n), count) for m, k, n, count in sizes]
    q, v, weights = randn(B * heads, N, 32), randn(B * heads, N, 32), randn(B * heads, N, N)
    scores, mixed = torch.empty_like(weights), torch.empty_like(v)

    def run() -> None:
        for left, right, count in linear:
            for _ in range(3 * count):
                left @ right
        for _ in range(3 * settings.depth * attended):
            torch.bmm(q, q.transpose(1, 2), out=scores)
            torch.bmm(weights, v, out=mixed)

    macs = sum(m * k * n * count for m, k, n, count in sizes) + 2 * settings.depth * attended * B * heads * N * N * 32
    return run, 6.0 * macs


def attention_alone(shape: tuple[int, int, int], dtype: torch.dtype) -> Callable[[], None]:
    """The attention of a step, forward and backward, without the linear layers around it."""
    B, N, D = shape
    settings = ProjectorSettings()
    parts = [torch.randn(B, default_width(D) // 32, N, 32, dtype=dtype, requires_grad=True) for _ in range(3)]

    def run() -> None:
        for _ in range(settings.depth):
            mixed = attention(*parts)
            torch.autograd.grad(mixed, parts, mixed.detach())

    return run


def keep_memory() -> None:
    """From here on, do what the Snakefile's MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_ do."""
    libc = ctypes.CDLL(None)
    for option in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
        if libc.mallopt(option, 1 << 30) != 1:
            raise SystemExit("mallopt refused: this benchmark needs glibc")


def main() -> None:
    """Print three lines, by what memory is kept, for float32 and for bfloat16."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shape", type=int, nargs=3, default=[8, 1024, 768], help="images, patches, channels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if any(name.startswith("MALLOC_") for name in os.environ):
        raise SystemExit("MALLOC_* is set, but this benchmark compares both kinds of memory; unset it")
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    target = torch.randn(*options.shape)
    inputs = target + 0.1 * torch.randn_like(target)
    in_float32, operations = products(tuple(options.shape), torch.float32)
    in_bfloat16, _ = products(tuple(options.shape), torch.bfloat16)
    ways = {
        "ours": our_step(target, inputs, "float32"),
        "ours bfloat16": our_step(target, inputs, "bfloat16"),
        "straightforward": straightforward_step(target, inputs),
        "floor": in_float32,
        "floor bfloat16": in_bfloat16,
        "linear": products(tuple(options.shape), torch.float32, attended=False)[0],
        "linear bfloat16": products(tuple(options.shape), torch.bfloat16, attended=False)[0],
        "attention": attention_alone(tuple(options.shape), torch.float32),
        "attention bfloat16": attention_alone(tuple(options.shape), torch.bfloat16),
    }
    clock = time.process_time if options.threads == 1 else time.perf_counter
    figures = Figures("training_step", "seconds a step")
    note = f"{operations / 1e9:.0f} GFLOP a step in {options.threads} thread(s)"
    script = medians(ways, options.rounds, clock=clock)
    keep_memory()
    kept = medians(ways, options.rounds, clock=clock)
    for precision, bar in (("float32", "1.8 x"), ("bfloat16", "3 x")):
        ours, floor = ("ours", "floor") if precision == "float32" else (f"ours {precision}", f"floor {precision}")
        plain = script["straightforward"]
        figures.add(f"{precision}, each as it runs", kept[ours], plain, kept[floor], bar, plain / kept[ours], note)
        least = sum(kept[ours.replace("ours", part)] for part in ("linear", "attention"))
        what = f"{precision}, beside the products of linear layers and attention"
        figures.add(what, kept[ours], floor=least, bar="at most 1.15 x", ratio=kept[ours] / least)
        for seconds, memory in ((script, "both as a script"), (kept, "both with memory kept")):
            figures.add(f"{precision}, {memory}", seconds[ours], seconds["straightforward"], seconds[floor])
    figures.finish()


if __name__ == "__main__":
    main()
