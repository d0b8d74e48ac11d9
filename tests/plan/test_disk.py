"""Model sizes that the plan predicts, compared with real models of the paper's baselines on tiny encoders."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from foundad.detection.bank import BankTokens
from foundad.detection.model import Model
from foundad.device import Compute
from foundad.plan.selection import Plan
from foundad.rehearsal import project
from foundad.rehearsal.summary import plan_of

# The share of components that SubspaceAD keeps depends on the tokens: its small models are off by more.
TOLERANCE = {"subspacead": 1.5}
METHODS = (
    "foundad", "foundad-mlp6", "patchcore", "patchcore-pooled", "fastrecon", "fastrecon-pooled", "padim", "padim-pooled",
    "spade", "spade-pooled", "anomalydino", "visionad", "visionad-pooled", "subspacead", "rad", "inp-former", "dinomaly",
    "anoco-pooled",
)  # fmt: skip


@pytest.fixture(scope="module")
def plan(tmp_path_factory) -> Plan:
    """The rivals of the paper and its projectors, with the published numbers of images and without any image."""

    def described(dataset, out: Path, amount) -> None:
        (out / "config/datasets").mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / f"config/datasets/{dataset.id}.yaml", out / "config/datasets")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(project, "_bring_dataset", described)
        values = {"experiments": ["rivals", "projectors"], "size": "paper"}
        return plan_of(project.make(values, ROOT / "config", "here", tmp_path_factory.mktemp("out")))


@pytest.mark.parametrize("name", METHODS)
def test_a_model_is_as_large_as_the_plan_says(name, plan, tmp_path):
    cell = next(cell for cell in plan.cells if cell.method == name and cell.dataset == "mvtec-ad")
    method, encoder = plan.project.method(name), plan.project.encoder(cell.encoder)
    generator = np.random.default_rng(0)

    def tokens(count: int) -> np.ndarray:
        return generator.normal(size=(count, encoder.grid**2, encoder.channels)).astype(np.float16)

    categories = [f"category{number:02}" for number in range(15)]
    drawn = categories * cell.shots * method.bank.views
    pairs = [categories[number % 15] for number in range(method.bank.pairs)]
    viewed = {view: (tokens(len(drawn)), tokens(len(pairs))) for view in method.bank.queries}
    model = Model(method, encoder, 0, 10, Compute("cpu", 1))
    described = tokens(len(drawn))[:, 0], tokens(len(pairs))[:, 0]
    model.fit(
        BankTokens(
            *(tokens(len(drawn)), drawn, tokens(len(pairs)), tokens(len(pairs)), pairs),
            viewed=viewed,
            arrays={view: {"class": described} for view in model.views},
        )
    )
    model.save(tmp_path / "model.safetensors")
    planned = plan.costs.disk(plan.job("fit", **vars(cell)))["models"]
    share = TOLERANCE.get(method.detector, 0.1)
    assert (tmp_path / "model.safetensors").stat().st_size == pytest.approx(planned, rel=share)


def test_the_scores_of_the_oracle_are_masks(plan):
    main = {"dataset": "mvtec-ad", "encoder": "dinov3-vitb16", "shots": 1, "seed": 0}
    encoder, images = plan.project.encoder("dinov3-vitb16"), plan.costs.images("mvtec-ad").test
    shutil.copy(ROOT / "config/methods/oracle.yaml", plan.project.folder / "methods")
    whole = Plan({"experiments": ["projectors"], "size": "paper"}, plan.project.folder)
    scores = {name: whole.costs.disk(whole.job("fit", method=name, **main))["scores"] for name in ("oracle", "foundad")}
    assert scores == {
        "oracle": images * (encoder.image_size**2 + 8),
        "foundad": images * (4 * encoder.grid**2 + 8),
    }
