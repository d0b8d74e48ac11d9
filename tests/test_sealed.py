"""Files between stages: whatever is damaged, permuted or of something else is one line that names it, and never a number."""

import errno
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundad import failures
from foundad.cells import Cell
from foundad.cli import main
from foundad.data.draws import Draw, read_draw, write_draw
from foundad.detection.bank import BankTokens
from foundad.errors import BrokenFile, MachineError, UserError
from foundad.files import TEMPORARY, folder_beside, lock, sweep, write_beside, write_text
from foundad.resumable import ResumableArray
from foundad.scores import Scores, read_scores, write_scores
from foundad.sealed import Seal, read_json, read_parquet, read_tensors, write_json, write_parquet, write_tensors
from foundad.tokens import Features

CELL, IDS = Cell("d", "e", "m", 1, 0), ["a", "b", "c"]
TOKENS = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float16)
DRAW = Draw("d", 1, 0, ["c"] * 3, IDS, IDS, IDS)


def write_features(path: Path, tokens: np.ndarray = TOKENS, key: str = "k") -> Path:
    with ResumableArray(path, tokens.shape, key) as array:
        array.append(tokens)
        facts = {"image_ids": IDS, "shape": tokens.shape, "checksums": array.checksums}
        write_json(path.with_suffix(".json"), Seal("features", key, facts))
        array.finish()
    return path


def write_bank(path: Path, draw: Draw = DRAW, views: int = 1) -> Path:
    """A bank of noise, as the stage writes it of ``draw``."""
    facts = {"dataset": draw.dataset, "encoder": "e", "shots": draw.shots, "seed": draw.seed, "draw": draw.hash}
    facts |= {"normal_categories": draw.categories * views, "normal_ids": draw.image_ids * views}
    facts |= {"pair_categories": draw.categories[:1] * 3, "pair_ids": draw.image_ids[:1] * 3, "queries": []}
    normal = np.zeros((len(draw.image_ids) * views, 4, 5), np.float16)
    write_tensors(path, Seal("bank", "k", facts), {"normal": normal, "clean": TOKENS, "synthetic": TOKENS})
    return path


def write_some_scores(path: Path, key: str = "k") -> Path:
    values = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    write_scores(path, Scores(values, values.max(axis=(1, 2)), np.full(3, 3, np.float32)), CELL, IDS, key)
    return path


def write_table(path: Path) -> Path:
    write_parquet(path, Seal("draw", "k", {"x": 1}), pa.table({"name": ["é", None], "value": [0.1, None]}))
    return path


READERS = {
    "features.npy": (write_features, lambda path: Features(path, IDS)[np.arange(3)]),
    "bank.safetensors": (write_bank, lambda path: BankTokens.load(path, (DRAW, "e"), "k")),
    "scores.safetensors": (write_some_scores, lambda path: read_scores(path, CELL, IDS, "k")),
    "table.parquet": (write_table, lambda path: read_parquet(path, "draw", "k")),
    "record.json": (
        lambda path: write_json(path, Seal("record", "k", {"a": [1, 2.5]})),
        lambda path: read_json(path, "record", "k"),
    ),
}


@pytest.mark.parametrize("name", READERS)
def test_what_is_written_is_read(name, tmp_path):
    write, read = READERS[name]
    write(tmp_path / name)
    read(tmp_path / name)


@pytest.mark.parametrize("name", READERS)
def test_a_flipped_byte_or_a_cut_is_never_a_number(name, tmp_path_factory):
    write, read = READERS[name]
    folder = tmp_path_factory.mktemp("files")
    path = folder / name
    write(path)
    whole = path.read_bytes()
    same = repr(read(path))

    @settings(max_examples=150, deadline=None)
    @given(st.integers(0, len(whole) - 1), st.integers(0, 7), st.booleans())
    def damaged(place: int, bit: int, cut: bool) -> None:
        data = bytearray(whole)
        data[place] ^= 1 << bit
        path.write_bytes(whole[:place] if cut else bytes(data))
        found, line = same, path.name
        try:
            found = repr(read(path))
        except BrokenFile as error:
            line = str(error)
        assert found == same  # a byte that nothing reads, such as padding of a header
        assert path.stem in line
        assert "\n" not in line

    damaged()


def test_files_of_something_else_are_refused(tmp_path):
    bank, scores = write_bank(tmp_path / "bank.safetensors"), write_some_scores(tmp_path / "scores.safetensors")
    with pytest.raises(BrokenFile, match="is the bank of d/e/k1-s0"):
        BankTokens.load(bank, (replace(DRAW, dataset="other"), "e"))
    with pytest.raises(BrokenFile, match="holds the scores of d/e/m/k1-s0"):
        read_scores(scores, Cell("d", "e", "other", 1, 0), IDS)
    with pytest.raises(BrokenFile, match="not the images of the manifest"):
        read_scores(scores, CELL, ["a", "c", "b"])
    with pytest.raises(BrokenFile, match="holds 'scores', expected 'bank'"):
        BankTokens.load(scores)
    for read in (lambda: BankTokens.load(bank, None, "new"), lambda: read_scores(scores, CELL, IDS, "new")):
        with pytest.raises(BrokenFile, match="is of another config, other data or another version"):
            read()


DRAWN = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("uvwx")), min_size=1, max_size=4, unique=True)


def named(rows: list[tuple[str, str]], contents: str = "") -> Draw:
    """The draw of these categories and names; what the images hold follows from ``contents`` as well."""
    ids = [f"{category}/{name}" for category, name in rows]
    return Draw("d", 1, 0, [category for category, _ in rows], ids, ids, [contents + name for _, name in rows])


def test_a_bank_serves_its_own_draw_alone(tmp_path_factory):
    path = tmp_path_factory.mktemp("banks") / "bank.safetensors"

    @settings(max_examples=150, deadline=None)
    @given(DRAWN, DRAWN, st.integers(1, 3), st.sampled_from(["", "changed "]))
    def joined(own: list[tuple[str, str]], other: list[tuple[str, str]], views: int, contents: str) -> None:
        write_bank(path, named(own), views)
        assert BankTokens.load(path, (named(own), "e"))[1] == named(own).hash
        if (other, contents) != (own, ""):
            with pytest.raises(BrokenFile, match="its rows are not the images of the draw"):
                BankTokens.load(path, (named(other, contents), "e"))

    joined()


def test_swapped_banks_are_refused_without_keys(tmp_path):
    draws = {name: named([("a", name), ("b", name)]) for name in "uv"}
    for name, draw in draws.items():
        write_bank(tmp_path / f"{name}.safetensors", draw)
    (tmp_path / "u.safetensors").rename(tmp_path / "w.safetensors")
    (tmp_path / "v.safetensors").rename(tmp_path / "u.safetensors")
    (tmp_path / "w.safetensors").rename(tmp_path / "v.safetensors")
    for name, draw in draws.items():
        with pytest.raises(BrokenFile, match=f"{name}.safetensors: its rows are not the images of the draw; delete it"):
            BankTokens.load(tmp_path / f"{name}.safetensors", (draw, "e"))


OF = ["--shots", "1", "--seed", "0"]
FIT = ["fit", "tiny", "tiny", "knn", *OF]


def run_up_to_the_fit() -> None:
    """The jobs that :data:`FIT` needs."""
    bank = ["bank", "tiny", "tiny", "knn", *OF]
    for call in (["manifest", "tiny"], ["draw", "tiny", *OF], ["features", "tiny", "tiny"], bank):
        assert main(call) == 0


def test_a_mistake_of_a_rival_is_recorded_with_its_place(project, monkeypatch):
    monkeypatch.chdir(project)
    run_up_to_the_fit()
    monkeypatch.setattr("baselines.knn.Memory", None)
    assert main([*FIT, "--record-failure"]) == 0
    reason = failures.failure_of(Path("results/cells/tiny/tiny/knn/k1-s0/model.safetensors"))
    assert re.fullmatch(r"TypeError: 'NoneType' object is not callable \(baselines/knn\.py:\d+\)", reason)


def test_a_fit_compares_bank_draw_and_manifest(project, monkeypatch, capsys):
    monkeypatch.chdir(project)
    run_up_to_the_fit()
    assert main(FIT) == 0
    path = Path("results/draws/tiny/k1-s0.parquet")
    drawn, seal = read_draw(path), read_parquet(path, "draw")[1]
    write_draw(replace(drawn, image_ids=[f"{name}0" for name in drawn.image_ids]), path, seal.key)
    assert main(FIT) == 1
    assert "its rows are not the images of the draw; delete it" in capsys.readouterr().err
    write_draw(replace(drawn, image_ids=["bolt/test/spot/000", *drawn.image_ids[1:]]), path, seal.key)
    assert main(FIT) == 1
    assert "k1-s0.parquet: holds the test image bolt/test/spot/000 of the manifest" in capsys.readouterr().err


def test_draws_of_something_else_are_refused(tmp_path):
    write_draw(DRAW, tmp_path / "draw.parquet")
    assert read_draw(tmp_path / "draw.parquet", of=("d", 1, 0)) == DRAW
    with pytest.raises(BrokenFile, match="is the draw of d/k1-s0"):
        read_draw(tmp_path / "draw.parquet", of=("d", 1, 1))


def test_permuted_doubled_and_foreign_features_are_refused(tmp_path):
    path = write_features(tmp_path / "features.npy")
    with pytest.raises(BrokenFile, match="not the images of the manifest"):
        Features(path, ["b", "a", "c"])
    for rows in ([1, 0, 2], [0, 0, 2]):
        np.save(path, TOKENS[rows])
        with pytest.raises(BrokenFile, match="is damaged"):
            Features(path, IDS)[np.arange(3)]
    np.save(path, TOKENS[:2])
    with pytest.raises(BrokenFile, match=r"that its \.json names"):
        Features(path, IDS)


def test_two_writers_of_one_array_do_not_meet(tmp_path):
    path = tmp_path / "array.npy"
    with ResumableArray(path, (3, 4, 5), "old") as orphan:
        orphan.append(TOKENS[:2])
        with ResumableArray(path, (3, 4, 5), "new") as other:
            other.append(-TOKENS)
            other.finish()
        np.testing.assert_array_equal(np.load(path), -TOKENS)
        orphan.append(TOKENS[2:])
        orphan.finish()
    np.testing.assert_array_equal(np.load(path), TOKENS)
    assert [item.name for item in tmp_path.iterdir()] == ["array.npy"]


def test_a_damaged_row_of_a_killed_job_is_made_again(tmp_path):
    path = tmp_path / "array.npy"
    with ResumableArray(path, (3, 4, 5), "key") as array:
        array.append(TOKENS[:2])
    partial = tmp_path / ".array.npy.partial"
    data = bytearray(partial.read_bytes())
    data[-1] ^= 1
    partial.write_bytes(data)
    with ResumableArray(path, (3, 4, 5), "key") as array:
        assert array.rows == 1
        array.append(TOKENS[1:])
        array.finish()
    np.testing.assert_array_equal(np.load(path), TOKENS)


def test_only_what_would_happen_again_is_recorded():
    import torch
    from pydantic_core import SchemaError
    from safetensors import SafetensorError

    def made(cause: Exception, error: Exception) -> Exception:
        error.__cause__ = cause
        return error

    machine = [
        OSError(errno.ENOSPC, "No space left on device"),
        MemoryError(),
        ImportError("libfoo.so: failed to map segment from shared object"),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        SafetensorError('Error while serializing: IoError(Os { code: 28, message: "No space left on device" })'),
        MachineError("no GPU"),
        BrokenFile("damaged"),
        made(OSError(errno.EIO, "I/O error"), ValueError("of a broken disk")),
        SchemaError('Error building "model" validator: SchemaError: KeyboardInterrupt:'),
    ]
    assert [error for error in machine if failures.recordable(error)] == []
    again = [UserError("a typo"), ValueError("singular"), made(OSError(2, "absent"), UserError("x.png: is missing"))]
    assert all(failures.recordable(error) for error in again)


def test_a_marker_says_which_job_failed(tmp_path):
    path = tmp_path / "model.safetensors"
    failures.write_failure([path], "a reason", "k")
    assert failures.failure_of(path, "k") == "a reason"
    with pytest.raises(BrokenFile, match="of another config"):
        failures.failure_of(path, "other")
    path.write_text('{"foundad_failure": "cut')
    with pytest.raises(BrokenFile, match="damaged record"):
        failures.failure_of(path)


def test_what_a_killed_process_left_is_swept_and_what_lives_is_not(tmp_path):
    dead = tmp_path / "cells" / f".record.abc{TEMPORARY}.json"
    write_text(dead.with_name("record.json"), "{}")
    dead.write_text("half")
    (tmp_path / f".textures.x{TEMPORARY}").mkdir()
    with write_beside(tmp_path / "cells/model.safetensors") as alive, folder_beside(tmp_path / "data") as folder:
        alive.write_text("whole")
        (folder / "a.txt").write_text("a")
        assert sweep(tmp_path) == 2
        assert alive.exists()
        assert folder.exists()
    names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    assert names == {"cells", "cells/record.json", "cells/model.safetensors", "data", "data/a.txt"}


def test_a_lock_is_gone_afterwards(tmp_path):
    with lock(tmp_path / "x.lock"):
        assert (tmp_path / "x.lock").exists()
    assert list(tmp_path.iterdir()) == []


def test_tensors_of_no_size_and_every_type_come_back(tmp_path):
    arrays = {"none": np.empty((0, 3), np.float32), "flag": np.array(True), "many": np.arange(4, dtype=np.int64)}
    write_tensors(tmp_path / "a.safetensors", Seal("model"), arrays)
    found, seal = read_tensors(tmp_path / "a.safetensors", "model")
    assert seal.key == ""
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
