"""Folders of every shape: each is understood rightly, or refused with one line that says what was found."""

import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, picture, save
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from foundad.errors import UserError
from foundad.own.folder import understand
from foundad.own.masks import match
from foundad.own.project import Wanted, make
from foundad.own.run import told
from foundad.own.words import ROLES, pictured, role_of, role_of_stem
from foundad.plan.selection import Plan


def put(root: Path, folder: str, count: int, name: str = "{:03}.png", **how) -> None:
    """``count`` pictures that differ from all others; masks if ``mask``."""
    for number in range(count):
        path = root / folder / name.format(number)
        seed = hash_of(f"{folder}/{name}/{number}")
        save(picture(seed, how.get("size", 24), spot=True)[1 if how.get("mask") else 0], path)


def hash_of(text: str) -> int:
    return sum(ord(sign) * 31**place for place, sign in enumerate(text)) % 2**31


def write(root: Path, name: str, text: str = "x") -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


# Shape -> how it is made, and what is in the project's list: (category, split, label, defect, masked) -> pictures.
Made = Callable[[Path], None]
L, T, G, B = "train", "test", "normal", "anomalous"
UNDERSTOOD: dict[str, tuple[Made, dict[tuple, int], int]] = {}
REFUSED: dict[str, tuple[Made, str]] = {}


def of_both(learned: int, tested: int, **defects: int) -> dict[tuple, int]:
    """What is expected of two categories, bolt and nut, that are alike."""
    kinds = {(L, G, ""): learned, (T, G, ""): tested} | {(T, B, defect): count for defect, count in defects.items()}
    return {(name, *kind, False): count for name in ("bolt", "nut") for kind, count in kinds.items()}


def understood(expected: dict[tuple, int], scored: int = 0) -> Callable[[Made], Made]:
    return lambda made: UNDERSTOOD.setdefault(made.__name__, (made, expected, scored))[0]


def refused(line: str) -> Callable[[Made], Made]:
    return lambda made: REFUSED.setdefault(made.__name__, (made, line))[0]


@understood({("", L, G, "", False): 6, ("", T, G, "", False): 3})
def flat(root):
    put(root, "", 9)


@understood({("", L, G, "", False): 4, ("", T, G, "", False): 2, ("", T, B, "scratch", True): 3})
def mvtec(root):
    put(root, "train/good", 4), put(root, "test/good", 2), put(root, "test/scratch", 3)
    put(root, "ground_truth/scratch", 3, "{:03}_mask.png", mask=True)


@understood({("", L, G, "", False): 4, ("", T, G, "", False): 2, ("", T, B, "Bad", False): 3})
def good_and_bad(root):
    put(root, "Good", 6), put(root, "Bad", 3)


@understood({("", L, G, "", False): 4, ("", T, G, "", False): 2, ("", T, B, "NG", False): 3})
def ok_and_ng_in_a_wrapper(root):
    put(root, "line 4/images/OK", 6), put(root, "line 4/images/NG", 3)


@understood({("", L, G, "", False): 2, ("", T, G, "", False): 1, ("", T, B, "Not-OK", False): 1})
def spelled_with_signs(root):
    put(root, "Defect_Free", 3), put(root, "Not-OK", 1)


@understood({("", L, G, "", False): 2, ("", T, G, "", False): 1, ("", T, B, "异常", False): 2})
def unicode_words(root):
    put(root, "正常", 3, "图片 {}.png"), put(root, "异常", 2, "ß{}.png")


@understood(
    {("", L, G, "", False): 2, ("", T, G, "", False): 1, ("", T, B, "dent", False): 2, ("", T, B, "cut", False): 1}
)
def kinds_of_defects_beside_good(root):
    put(root, "good", 3), put(root, "dent", 2), put(root, "cut/deep", 1)


@understood(
    {
        (name, *kind, False): count
        for name in ("bolt", "nut")
        for kind, count in {(L, G, ""): 2, (T, G, ""): 1, (T, B, "bad"): 1}.items()
    }
)
def categories_of_good_and_bad(root):
    for name in ("bolt", "nut"):
        put(root, f"parts/{name}/good", 3), put(root, f"parts/{name}/bad", 1)


@understood(
    {
        (name, *kind, False): count
        for name in ("bolt", "nut")
        for kind, count in {(L, G, ""): 3, (T, G, ""): 1, (T, B, "rust"): 2}.items()
    }
)
def the_split_above_the_categories(root):
    for name in ("bolt", "nut"):
        put(root, f"train/{name}", 3), put(root, f"test/{name}/good", 1), put(root, f"test/{name}/rust", 2)


@understood({("", L, G, "", False): 4, ("", T, G, "", False): 2}, scored=3)
def an_unlabelled_test_set(root):
    put(root, "train", 6), put(root, "test", 3)


@understood({("", L, G, "", False): 2, ("", T, G, "", False): 1, ("", T, B, "bad", False): 2}, scored=2)
def pictures_beside_good_and_bad(root):
    put(root, "good", 3), put(root, "bad", 2), put(root, "", 2, "unsorted {}.png")


@understood({("", L, G, "", False): 4, ("", T, G, "", False): 1, ("", T, B, "bad", False): 3})
def a_validation_set(root):
    put(root, "train/good", 4), put(root, "test/good", 1), put(root, "test/bad", 2), put(root, "train/bad", 1)
    put(root, "val/good", 2), put(root, "val/bad", 2)


@understood({("", L, G, "", False): 4, ("", T, G, "", False): 1, ("", T, B, "bad", False): 2})
def validation_in_place_of_a_test(root):
    put(root, "train/good", 4), put(root, "valid/good", 1), put(root, "valid/bad", 2)


@understood({("", L, G, "", False): 2, ("", T, G, "", False): 1, ("", T, B, "bad", False): 2})
def a_test_set_alone(root):
    put(root, "test/good", 3), put(root, "test/bad", 2)


@understood({("", L, G, "", False): 4, ("", T, G, "", False): 2, ("", T, B, "anomaly", True): 2})
def pictures_and_masks(root):
    put(root, "images", 8), put(root, "masks", 2, "00{}.png", mask=True)
    save(np.zeros((24, 24), np.uint8), root / "masks/005.png")  # an empty mask: nothing is defective


@understood({("", L, G, "", False): 2, ("", T, G, "", False): 1, ("", T, B, "bad", True): 2})
def masks_beside_their_pictures(root):
    put(root, "good", 3), put(root, "bad", 2, "{}.jpg"), put(root, "bad", 2, "{}_GT.png", mask=True)


@understood({("", L, G, "", False): 2, ("", T, G, "", False): 1, ("", T, B, "bad", False): 3})
def masks_of_some(root):
    put(root, "good", 3), put(root, "bad", 3), put(root, "mask", 2, mask=True)


@understood({("", L, G, "", False): 3, ("", T, G, "", False): 1, ("", T, B, "two", True): 2})
def folders_of_masks(root):
    put(root, "train/good", 3), put(root, "test/good", 1), put(root, "test/two", 2)
    for name in ("000", "001"):
        put(root, f"ground_truth/two/{name}", 2, mask=True)


@understood({("", L, G, "", False): 2, ("", T, G, "", False): 1, ("", T, B, "anomaly", False): 2})
def labels_in_the_names(root):
    put(root, "", 3, "ok_{}.png"), put(root, "", 2, "NG-{}.png")


@understood({("", L, G, "", False): 2, ("", T, G, "", False): 1, ("", T, B, "bad", False): 1})
def unreadable_pictures(root):
    put(root, "good", 3), put(root, "bad", 1)
    write(root, "good/broken.png"), write(root, "bad/empty.jpg", "")
    save(np.zeros((24, 24), np.float32), root / "good/float.tif")


@understood({("", L, G, "", False): 2, ("", T, G, "", False): 1, ("", T, B, "bad", False): 1})
def other_files(root):
    put(root, "good", 3), put(root, "bad", 1)
    for name in (
        "notes.txt",
        "good/Thumbs.db",
        ".DS_Store",
        "good/.hidden.png",
        "bad/report.pdf",
        "good/a_anomaly.png",
    ):
        write(root, name)
    put(root, "good", 1, "000_anomaly.png")  # a heatmap beside 000.png
    (root / "good/a_anomaly.png").unlink()


@understood({("", L, G, "", False): 2, ("", T, G, "", False): 1, ("", T, B, "bad", False): 1})
def mixed_sizes_and_modes(root):
    put(root, "good", 1, size=24), put(root, "good", 1, "wide{}.webp", size=31)
    Image.fromarray(np.arange(900, dtype=np.uint16).reshape(30, 30) * 70).save(root / "good/deep.png")
    save(picture(5, 40)[0][:7], root / "bad/flat.bmp")


@understood({("", L, G, "", False): 2, ("", T, G, "", False): 1, ("", T, B, "bad", False): 2})
def links(root):
    put(root.parent / "elsewhere", "", 2), put(root, "good", 3)
    (root / "bad").symlink_to(root.parent / "elsewhere")
    (root / "good/again").symlink_to(root)  # a circle
    (root / "good/gone.png").symlink_to(root / "nowhere.png")


@understood({("", L, G, "", False): 2, ("", T, G, "", False): 1, ("", T, B, "bad", False): 1})
def the_same_picture_twice(root):
    put(root, "good", 3), put(root, "bad", 1)
    (root / "good/copy.png").write_bytes((root / "good/000.png").read_bytes())
    (root / "bad/copy.png").write_bytes((root / "bad/000.png").read_bytes())


@understood({("", L, G, "", False): 2, ("", T, G, "", False): 1, ("", T, B, "bad", False): 1})
def names_that_no_list_can_hold(root):
    put(root, "good", 3), put(root, "bad", 1)
    data = (root / "good/000.png").read_bytes()
    for name in (b"latin-\xe9.png", b"line\nbreak.png", b"back\\slash.png"):
        with open(os.fsencode(root / "good") + b"/" + name, "wb") as file:
            file.write(data)


@understood({("", L, G, "", False): 3, ("", T, G, "", False): 1, ("", T, B, "crack", False): 2})
def a_list_of_their_own(root):
    put(root, "a", 4), put(root, "b", 2)
    rows = [f"a/00{n}.png,{'test' if n == 3 else 'train'},normal," for n in range(4)]
    rows += [f"b/00{n}.png,test,anomalous,crack" for n in range(2)]
    write(root, "images.csv", "\n".join(["image,split,label,defect", *rows]) + "\n")


@understood({("", L, G, "", False): 3, ("", T, G, "", False): 1, ("", T, B, "anomaly", True): 2})
def visa(root):
    put(root, "candle/Data/Images/Normal", 4, "{}.JPG"), put(root, "candle/Data/Images/Anomaly", 2, "{}.JPG")
    put(root, "candle/Data/Masks/Anomaly", 2, "{}.png", mask=True)
    rows = [f"candle,{'test' if n == 3 else 'train'},normal,candle/Data/Images/Normal/{n}.JPG," for n in range(4)]
    rows += [
        f"candle,test,anomaly,candle/Data/Images/Anomaly/{n}.JPG,candle/Data/Masks/Anomaly/{n}.png" for n in range(2)
    ]
    write(root, "split_csv/1cls.csv", "\n".join(["object,split,label,image,mask", *rows]) + "\n")


@understood({("nut", L, G, "", False): 2, ("nut", T, G, "", False): 1, ("nut", T, B, "bad", False): 1})
def a_category_without_defects(root):
    put(root, "bolt/good", 3), put(root, "nut/good", 3), put(root, "nut/bad", 1)


@understood({("", L, G, "", False): 1, ("", T, G, "", False): 1})
def two_pictures(root):
    put(root, "", 2)


@refused("is empty; pictures are BMP, JPEG")
def empty(root):
    (root / "below/below").mkdir(parents=True)


@refused("holds one normal picture; two are the least")
def single(root):
    put(root, "", 1)


@refused(r"holds no pictures but 3 other files \(2 \.txt, 1 \.heic\)")
def no_pictures(root):
    write(root, "a.txt"), write(root, "b/c.txt"), write(root, "IMG_1.HEIC")


@refused(r"holds 3 defective pictures \(bad \(3\)\) and no normal one to learn from")
def only_bad(root):
    put(root, "bad", 3)


@refused(r"holds 2 defective and 4 unlabelled pictures \(\. \(4\), defects \(2\)\) and no normal one")
def bad_beside_pictures(root):
    put(root, "", 4), put(root, "defects", 2)


@refused(r"holds pictures in 2 folders \(north \(3\), south \(2\)\) and no name says which are normal")
def folders_of_unknown_names(root):
    put(root, "north", 3), put(root, "south", 2)


@refused(r"holds 2 masks \(first: gt/x0\.png\) and none belongs to a picture")
def masks_of_other_names(root):
    put(root, "good", 3), put(root, "bad", 2), put(root, "gt", 2, "x{}.png", mask=True)


@refused("none of its 3 pictures can be read .*is not a readable picture")
def nothing_but_broken(root):
    for name in ("a.png", "b.jpg", "c.bmp"):
        write(root, name)


@refused(r"images\.csv: line 2: column 'label' is 'fine'")
def a_wrong_list(root):
    put(root, "a", 1), write(root, "images.csv", "image,split,label\na/000.png,train,fine\n")


@refused("there is no such folder; name a folder of pictures")
def missing(root):
    root.rmdir()


@refused("is a file, not a folder of pictures")
def a_file(root):
    root.rmdir(), root.write_text("x")


def made(root: Path, make_it: Made) -> Path:
    root.mkdir()
    make_it(root)
    return root


def project_of(root: Path, out: Path, **how):
    return make(Wanted(root, out, config=ROOT / "config", **how))


@pytest.mark.parametrize("shape", UNDERSTOOD)
def test_a_folder_becomes_a_project(shape, tmp_path):
    make_it, expected, scored = UNDERSTOOD[shape]
    own = project_of(made(tmp_path / "photos", make_it), tmp_path / "out")
    rows = [line.split(",") for line in (own.folder / "data/photos/images.csv").read_text().splitlines()[1:]]
    single = {row[3] for row in rows} == {"photos"}
    found = Counter((("" if single else row[3]), row[1], row[2], row[4], bool(row[5])) for row in rows)
    assert found == expected
    assert len(own.split.scored) == scored
    assert own.split.labelled == any(kind[2] == B for kind in expected)
    normal = sum(count for kind, count in expected.items() if kind[2] == G)
    left_out = [picture.path for fold in own.split.folds for picture in fold]
    assert len(left_out) == len(set(left_out)) == (0 if own.split.labelled else normal)
    assert all(normal - len(fold) >= own.shots for fold in own.split.folds)
    text = "\n".join(told(own))
    assert all(str(count) in text for count in expected.values())
    plan = Plan({"experiments": ["own"], "results": str(tmp_path / "results")}, own.folder / "config")
    assert len(plan.cells) == (3 * 5 if own.split.labelled else 3 * (1 + len(own.split.folds)))


@pytest.mark.parametrize("shape", REFUSED)
def test_a_folder_is_refused_in_one_line(shape, tmp_path):
    make_it, line = REFUSED[shape]
    root = made(tmp_path / "photos", make_it)
    with pytest.raises(UserError, match=line) as caught:
        project_of(root, tmp_path / "out")
    assert str(caught.value).startswith(str(root))
    assert "\n" not in str(caught.value)


def test_what_is_left_out_is_said(tmp_path):
    def text(make_it: Made, name: str) -> str:
        return "\n".join(told(project_of(made(tmp_path / name, make_it), tmp_path / f"{name}-out")))

    assert "2 masks, because 1 defective pictures have none (first: bad/002.png)" in text(masks_of_some, "masks")
    assert "4 validation pictures, which stay out" in text(a_validation_set, "validation")
    assert "3 names that no list can hold" in text(names_that_no_list_can_hold, "names")
    assert "category bolt: left out, because it has no defective picture" in text(
        a_category_without_defects, "category"
    )
    assert text(unreadable_pictures, "unreadable").count("left out: ") == 3
    assert "the same picture as good/000.png" in text(the_same_picture_twice, "twice")
    assert "2 unlabelled: scored at the end" in text(pictures_beside_good_and_bad, "beside")
    assert "taken as the layout visa of a known dataset" in text(visa, "visa")
    assert "2 files that are no pictures (first: bad/report.pdf)" in text(other_files, "other")


def test_shots_are_those_that_are_there_and_the_split_is_fixed(tmp_path):
    root = made(tmp_path / "photos", flat)
    first = project_of(root, tmp_path / "a", shots=20)
    assert first.shots == 6  # of nine, three are held out
    assert project_of(root, tmp_path / "b", shots=2).split.pictures == first.split.pictures
    put(root, "bad", 1)
    write(root, "good/x.txt")
    for path in root.glob("*.png"):
        path.rename(root / "good" / path.name)
    assert project_of(root, tmp_path / "c", shots=20).shots == 6


def test_pictures_are_left_out_one_by_one_only_where_they_are_few(tmp_path):
    root = made(tmp_path / "photos", flat)  # nine
    folds = {shots: project_of(root, tmp_path / f"{shots}", shots=shots).split.folds for shots in (1, 4, 7, 8, 20)}
    assert {shots: len(found) for shots, found in folds.items()} == {1: 4, 4: 4, 7: 5, 8: 9, 20: 9}


def test_a_project_is_of_one_folder(tmp_path):
    root = made(tmp_path / "photos", flat)
    own = project_of(root, tmp_path / "out")
    own.results.root.joinpath("kept").write_text("x")
    assert project_of(root, tmp_path / "out").results.root.joinpath("kept").exists()
    other = made(tmp_path / "other", flat)
    for out, line in (
        (tmp_path / "out", "is the project of .*photos; give --out another folder"),
        (tmp_path / "other", "lies among the pictures; give --out a folder elsewhere"),
        (tmp_path, "holds something else; give --out another folder"),
    ):
        with pytest.raises(UserError, match=line):
            project_of(other, out)
    with pytest.raises(UserError, match="no encoder 'efficientnet-lite9'; did you mean"):
        project_of(root, tmp_path / "out", encoder="efficientnet-lite9")


def test_words_are_of_one_role():
    words = [word for found in ROLES.values() for word in found]
    assert len(words) == len(set(words))
    assert (role_of("Defect-Free"), role_of("Ground Truth"), role_of("bolt")) == ("normal", "truth", "")
    assert [role_of_stem(stem) for stem in ("ok_01", "not_ok_3", "NG12", "gooseneck", "7")] == [
        "normal",
        "defective",
        "defective",
        "",
        "",
    ]
    assert [pictured(stem) for stem in ("001_mask", "001-GT", "a_ground_truth", "mask")] == ["001", "001", "a", "mask"]


@given(st.lists(st.sampled_from(["a/1", "a/2", "b/1", "b/2", "b/3"]), unique=True))
def test_a_mask_of_the_same_folders_is_found_among_pictures_of_the_same_name(names):
    pictures = [f"test/{name}.png" for name in names]
    masks = [f"ground_truth/{name}_mask.png" for name in names]
    found = match(pictures, masks)
    assert {picture: mask.path for picture, mask in found.items()} == dict(zip(pictures, masks, strict=True))


def test_nothing_is_written_beside_the_pictures(tmp_path):
    root = made(tmp_path / "photos", mvtec)
    before = sorted(root.rglob("*"))
    project_of(root, tmp_path / "out")
    assert sorted(root.rglob("*")) == before
    assert understand(root).known is None
    assert re.match("# Written by foundad run", (tmp_path / "out/config/config.yaml").read_text())
