"""What a run costs before it runs: cells, encoder passes, GPU hours and disk, from the config alone.

Behind ``foundad plan``. Counts are exact where the dataset's YAML or manifest knows its images; times are operations over
one assumed rate, good to a factor of two or three. It reads no image and builds no model.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from foundad.cells import Cell
from foundad.config.encoder import Encoder, Stages
from foundad.method.settings import Projector, Settings
from foundad.plan.project import bank_id
from foundad.plan.selection import Plan

# Operations a second assumed of one GPU: about a third of the 67 TFLOP/s of an H100 in float32 (NVIDIA's data sheet).
RATE = 20e12
# Of convolutional encoders, an image pixel: WideResNet-50-2, 22.8 GFLOP at 224 px (torchvision), the largest here.
CONVOLUTIONAL = 22.8e9 / 224**2
ASSUMED_TEST_IMAGES = 100  # a category, where neither the YAML nor a manifest says how many
BACKWARD = 3  # a training step over a forward pass
FLOAT32, FLOAT16 = 4, 2  # bytes


@dataclass
class Cost:
    """Images encoded, operations, bytes on disk, and datasets whose size is assumed."""

    test_passes: int = 0
    bank_passes: int = 0
    fresh_passes: int = 0
    encoding: float = 0.0
    training: float = 0.0
    feature_bytes: int = 0
    bank_bytes: int = 0
    cell_bytes: int = 0
    assumed: list[str] = field(default_factory=list)

    @property
    def hours(self) -> float:
        """Of one GPU at the assumed rate."""
        return (self.encoding + self.training) / RATE / 3600


def cost(plan: Plan) -> Cost:
    """The cost of all cells of ``plan``, from nothing."""
    found = Cost()
    images = {name: test_images(plan, name, found) for name in dict.fromkeys(cell.dataset for cell in plan.cells)}
    views = [
        (cell.dataset, cell.encoder, view)
        for cell in plan.cells
        if "features" in plan.project.method(cell.method).needs
        for view in ("", *plan.project.method(cell.method).bank.queries)
    ]
    for dataset, encoder_id, _ in dict.fromkeys(views):
        encoder, (_, count) = plan.project.encoder(encoder_id), images[dataset]
        found.test_passes += count
        found.encoding += count * encoding(encoder)
        found.feature_bytes += count * token_bytes(encoder)
    banks = {}
    for cell in plan.cells:
        method, encoder, (categories, count) = (
            plan.project.method(cell.method),
            plan.project.encoder(cell.encoder),
            images[cell.dataset],
        )
        drawn = categories * cell.shots
        if "bank" in method.needs:
            name = (cell.dataset, cell.encoder, cell.shots, cell.seed, bank_id(method))
            banks[name] = method.bank.passes(drawn)
        if isinstance(method, Settings):
            steps, batch = method.training.budget(drawn), method.training.batch_size
            if method.training.pairs == "fresh":
                passes = method.passes(drawn, steps)
                found.fresh_passes += passes
                found.encoding += passes * encoding(encoder)
            forward = projection(method.projector, encoder)
            found.training += forward * (BACKWARD * steps * batch + count)
            found.cell_bytes += parameters(method.projector, encoder) * FLOAT32
        found.cell_bytes += count * encoder.grid**2 * FLOAT32
    for (_, encoder_id, *_), passes in banks.items():
        encoder = plan.project.encoder(encoder_id)
        found.bank_passes += passes
        found.encoding += passes * encoding(encoder)
        found.bank_bytes += passes * token_bytes(encoder)
    return found


def test_images(plan: Plan, name: str, found: Cost) -> tuple[int, int]:
    """Categories and test images of a dataset; notes in ``found`` where they are assumed."""
    dataset, manifest = plan.project.dataset(name), plan.results.manifest(name)
    with_split = [numbers for numbers in dataset.counts.values() if len(numbers) == 3]
    if with_split:
        return len(with_split), sum(normal + defective for _, normal, defective in with_split)
    if manifest.is_file():
        from foundad.data.counts import counts_of
        from foundad.data.manifest import read_manifest

        counts = counts_of(read_manifest(manifest).rows)
        return len(counts), sum(normal + defective for _, normal, defective in counts.values())
    found.assumed.append(name)
    categories = max(1, len(dataset.folders or ()))
    return categories, categories * ASSUMED_TEST_IMAGES


def encoding(encoder: Encoder) -> float:
    """Operations to encode one image: 24 D^2 a token and block of a transformer, and 4 N D of its attention."""
    if encoder.parts:
        return sum(encoding(part) for part in encoder.parts)
    if isinstance(encoder.features, Stages):
        return CONVOLUTIONAL * encoder.image_size**2
    tokens, width = encoder.grid**2, encoder.channels
    return encoder.features.depth * tokens * (24 * width**2 + 4 * tokens * width)


def parameters(projector: Projector, encoder: Encoder) -> int:
    """Of a projector: 12 w^2 a block of a transformer, 8 w^2 of an MLP, and both ends."""
    width = projector.width_for(encoder.channels)
    block = (4 if projector.type == "vit" else 0) + 2 * projector.mlp_ratio
    return round(projector.depth * block * width**2) + 2 * encoder.channels * width


def projection(projector: Projector, encoder: Encoder) -> float:
    """Operations of a projector's forward pass over the tokens of one image."""
    tokens, width = encoder.grid**2, projector.width_for(encoder.channels)
    attention = projector.depth * 4 * tokens**2 * width if projector.type == "vit" else 0
    return 2.0 * parameters(projector, encoder) * tokens + attention


def token_bytes(encoder: Encoder) -> int:
    """Of the patch tokens of one image as they are stored."""
    return encoder.grid**2 * encoder.channels * FLOAT16


def as_text(plan: Plan) -> str:
    """What ``foundad plan`` prints."""
    found = cost(plan)
    lines = [f"{len(plan.cells)} cells of {len(plan.experiments)} experiments at size {plan.run.size}"]
    lines += [f"skipped: experiment {name}: {reason}" for name, reason in plan.skipped.items()]
    for axis in ("dataset", "encoder", "method"):
        lines += ["", *_counts(axis, plan.cells)]
    gigabyte = 1e9
    disk = found.feature_bytes + found.bank_bytes + found.cell_bytes
    lines += [
        "",
        f"encoder passes  {found.test_passes:,} test images, once an encoder and query view; "
        f"{found.bank_passes:,} for banks; {found.fresh_passes:,} for fresh pairs",
        f"GPU hours       {found.hours:.1f} ({found.encoding / RATE / 3600:.1f} encoding, "
        f"{found.training / RATE / 3600:.1f} projectors) at {RATE / 1e12:.0f} TFLOP/s; baselines and the start of jobs "
        "not counted",
        f"disk            {disk / gigabyte:,.0f} GB: features {found.feature_bytes / gigabyte:,.0f}, banks "
        f"{found.bank_bytes / gigabyte:,.0f}, cells {found.cell_bytes / gigabyte:,.0f}",
    ]
    if found.assumed:
        lines.append(
            f"assumed         {ASSUMED_TEST_IMAGES} test images a category of {', '.join(found.assumed)}: no counts in the "
            "YAML, no manifest yet"
        )
    return "\n".join(lines)


def _counts(axis: str, cells: Iterable[Cell]) -> list[str]:
    counts = Counter(getattr(cell, axis) for cell in cells)
    width = max(map(len, counts))
    return [f"{axis + 's':<{width + 2}}  cells", *(f"  {name:<{width}}  {n:>5}" for name, n in counts.items())]
