"""What people call the folders of their pictures: train and test, normal and defective, masks, and what says nothing.

Names are compared without case, spaces and punctuation. Nothing is read here.
"""

import re

from foundad.data.layouts.mvtec import LIKE_NORMAL, LIKE_SPLIT, LIKE_TRUTH

ROLES: dict[str, frozenset[str]] = {
    "train": frozenset({name for name, split in LIKE_SPLIT.items() if split == "train"} | {"trainset", "trains"}),
    "test": frozenset(
        {name for name, split in LIKE_SPLIT.items() if split == "test"} | {"testset", "eval", "evaluation"}
    ),
    "validation": frozenset({"validation", "valid", "val", "dev"}),
    "normal": frozenset(
        LIKE_NORMAL
        | {
            "negative",
            "negatives",
            "neg",
            "undamaged",
            "unbroken",
            "perfect",
            "fine",
            "passed",
            "accepted",
            "reference",
        }
        | {
            "references",
            "golden",
            "noerror",
            "nonanomalous",
            "nonanomaly",
            "gut",
            "fehlerfrei",
            "bon",
            "bueno",
            "buono",
        }
        | {
            "norm",
            "goodparts",
            "okparts",
            "normalimages",
            "goodimages",
            "正常",
            "良品",
            "合格",
            "合格品",
            "정상",
            "норма",
        }
    ),
    "defective": frozenset(
        {"bad", "ng", "nok", "notok", "notgood", "nogood", "ko", "nio", "defect", "defects", "defective", "defectives"}
        | {"anomaly", "anomalies", "anomalous", "abnormal", "abnormals", "faulty", "fault", "faults", "fail", "failed"}
        | {"reject", "rejects", "rejected", "damaged", "damage", "broken", "positive", "positives", "pos", "schlecht"}
        | {"fehler", "fehlerhaft", "defekt", "outlier", "outliers", "badparts", "ngparts", "defectimages", "badimages"}
        | {
            "异常",
            "異常",
            "不良",
            "不良品",
            "缺陷",
            "次品",
            "不合格",
            "불량",
            "брак",
            "defaut",
            "défaut",
            "defecto",
            "difetto",
        }
    ),
    "unlabelled": frozenset({"unlabelled", "unlabeled", "unknown", "unsorted", "new", "topredict", "predict"}),
    "truth": frozenset(LIKE_TRUTH)
    | frozenset({"groundtruthmask", "groundtruthmasks", "segmentationmask", "segmentationmasks", "binarymask", "gts"})
    | frozenset({"binarymasks", "defectmasks", "maskimages", "labelmasks", "annotationmasks", "maskdir", "seg"}),
    # What says only that there are pictures below.
    "container": frozenset(
        {"images", "image", "imgs", "img", "pictures", "photos", "photographs", "data", "jpegimages", "dataset", "rgb"}
    ),
}
_MASK = re.compile(r"[\s._-]*(?:ground[\s_-]?truth|gt|masks?|labels?|seg(?:mentation)?|annotations?)$", re.IGNORECASE)
_FIRST = re.compile(r"[^\W\d_]+(?:[\s-](?=[^\W\d_]))?")


def plain(name: str) -> str:
    """``name`` without case, spaces and punctuation."""
    return "".join(sign for sign in name.casefold() if sign.isalnum())


def role_of(name: str) -> str:
    """The role of a folder of this name: a key of :data:`ROLES`, or empty where the name is one of the user's own."""
    word = plain(name)
    return next((role for role, words in ROLES.items() if word in words), "")


def role_of_stem(stem: str) -> str:
    """``normal`` or ``defective`` where the name of a picture begins with such a word (``ok_001``), else empty."""
    found = re.match(r"[^\W\d]+", stem)
    words = [] if found is None else [part for part in re.split(r"_+", found[0]) if part]
    for count in range(len(words), 0, -1):
        role = role_of("".join(words[:count]))
        if role in ("normal", "defective"):
            return role
    return ""


def pictured(stem: str) -> str:
    """The stem of the picture that a mask of this stem belongs to: without ``_mask`` and the like."""
    shorter = _MASK.sub("", stem)
    return shorter or stem
