"""What people call the folders of their pictures: train and test, normal and defective, masks, and what says nothing.

Names are compared without case, spaces and punctuation. Nothing is read here.
"""

import re

from foundad.data.layouts.mvtec import LIKE_NORMAL, LIKE_SPLIT, LIKE_TRUTH

_WORDS = {
    "train": "trainset trains",
    "test": "testset eval evaluation",
    "validation": "validation valid val dev",
    "normal": "negative negatives neg undamaged unbroken perfect fine passed accepted reference references golden noerror "
    "nonanomalous nonanomaly norm goodparts okparts normalimages goodimages gut fehlerfrei bon bueno buono 正常 良品 合格 "
    "合格品 정상 норма",
    "defective": "bad ng nok notok notgood nogood ko nio defect defects defective defectives anomaly anomalies anomalous "
    "abnormal abnormals faulty fault faults fail failed reject rejects rejected damaged damage broken positive positives "
    "pos outlier outliers badparts ngparts defectimages badimages schlecht fehler fehlerhaft defekt defaut défaut defecto "
    "difetto 异常 異常 不良 不良品 缺陷 次品 不合格 불량 брак",
    "unlabelled": "unlabelled unlabeled unknown unsorted new topredict predict",
    "truth": "groundtruthmask groundtruthmasks segmentationmask segmentationmasks binarymask binarymasks defectmasks "
    "maskimages labelmasks annotationmasks maskdir seg gts",
    # What says only that there are pictures below.
    "container": "images image imgs img pictures photos photographs data jpegimages dataset rgb",
}
# What the layout of MVTec AD takes for a near miss, for the same roles.
_KNOWN = {
    "train": {name for name, split in LIKE_SPLIT.items() if split == "train"},
    "test": {name for name, split in LIKE_SPLIT.items() if split == "test"},
    "normal": LIKE_NORMAL,
    "truth": LIKE_TRUTH,
}
ROLES = {role: frozenset(words.split()) | _KNOWN.get(role, set()) for role, words in _WORDS.items()}
_MASK = re.compile(r"[\s._-]*(?:ground[\s_-]?truth|gt|masks?|labels?|seg(?:mentation)?|annotations?)$", re.IGNORECASE)


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
