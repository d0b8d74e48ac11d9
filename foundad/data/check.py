"""``foundad data check``: verifies a dataset as the stage ``manifest`` does and prints what is in it.

Its last lines are the ledger: files found = files used + files left out, each kind with its reason.
"""

import sys
from pathlib import Path

from foundad.config.dataset import Dataset
from foundad.data.counts import as_published, counts_of, unusual_counts
from foundad.data.ledger import Ledger
from foundad.data.manifest import Manifest
from foundad.data.verify import build_manifest


def check(dataset: Dataset, threads: int = 1, checked: Path | None = None, deep: bool = False) -> int:
    """Print a report; returns 1 if numbers of images differ from the published ones, else 0.

    Raises:
        UserError: the dataset has problems; one line each.
    """
    manifest = build_manifest(dataset, threads, checked, deep, sys.maxsize)
    print(report(dataset, manifest))
    return 1 if unusual_counts(dataset, manifest.rows) else 0


def report(dataset: Dataset, manifest: Manifest) -> str:
    """Licence, images per category, sizes, modes, masks and notes; at the end what became of every file."""
    counts = counts_of(manifest.rows)
    width = max(map(len, [*counts, "category"]))
    lines = [
        f"{dataset.title} ({dataset.licence})",
        f"{'category':<{width}}  {'draws':>6} {'normal':>7} {'defective':>9}  sizes",
    ]
    for category, (train, normal, defective) in counts.items():
        sizes = sorted({(row.width, row.height) for row in manifest.rows if row.category == category})
        shown = ", ".join(f"{w}x{h}" for w, h in sizes[:2]) + (f" and {len(sizes) - 2} more" if len(sizes) > 2 else "")
        published = dataset.counts.get(category)
        known = ", numbers as published" if published and as_published(counts[category], published) else ""
        lines.append(f"{category:<{width}}  {train:>6} {normal:>7} {defective:>9}  {shown}{known}")
    total = [sum(column) for column in zip(*counts.values(), strict=True)]
    lines.append(f"{'all':<{width}}  {total[0]:>6} {total[1]:>7} {total[2]:>9}")
    modes = ", ".join(sorted({row.mode for row in manifest.rows}))
    lines.append(f"pictures: {modes}; masks: {'yes' if manifest.has_masks else 'none, hence no pixel metrics'}")
    ledger = manifest.ledger or Ledger()
    return "\n".join([*lines, *manifest.notes, *ledger.remarks, *ledger.as_lines()])
