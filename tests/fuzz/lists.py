"""Lists that people write or datasets come with: images.csv and .parquet, VisA, Real-IAD, ELPV, and lists of draws."""

import io
import json
from collections.abc import Callable
from functools import partial
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
from mutators import either, of_bytes, of_csv, of_json, of_parquet
from pictures import SIDE, mask, picture, place
from target import Target, new_folder

from foundad.config.dataset import Dataset
from foundad.data.draws import listed_draw
from foundad.data.fingerprint import contents
from foundad.data.manifest import Manifest, Row
from foundad.data.verify import build_manifest
from foundad.hashes import Hashes

ROWS = [
    {"image": "good/a.png", "split": "train", "label": "normal", "category": "cat", "defect": "", "mask": ""},
    {"image": "good/b.png", "split": "test", "label": "normal", "category": "cat", "defect": "", "mask": ""},
    {
        "image": "bad/c.png",
        "split": "test",
        "label": "anomalous",
        "category": "cat",
        "defect": "spot",
        "mask": "bad/c_mask.png",
    },
]
VISA = (
    "object,split,label,image,mask\ncat,train,normal,good/a.png,\ncat,test,normal,good/b.png,\n"
    "cat,test,anomaly,bad/c.png,bad/c_mask.png\n"
)
REAL_IAD = {
    "meta": {"prefix": "cat", "normal_class": "OK"},
    "train": [{"image_path": "good/a.png", "mask_path": None, "anomaly_class": "OK", "category": "cat"}],
    "test": [
        {"image_path": "good/b.png", "mask_path": None, "anomaly_class": "OK"},
        {"image_path": "bad/c.png", "mask_path": "bad/c_mask.png", "anomaly_class": "spot"},
    ],
}
ELPV = "images/a.png  0.0  mono\nimages/b.png  1.0  mono\nimages/c.png  0.3333  poly\nimages/d.png  0.0  poly\n"
DRAWS = "category,image,shots,seed\ncat,good/a.png,1,0\ncat,d.png,1,1\n"


def csv_of(rows: list[dict[str, str]]) -> bytes:
    """``rows`` as CSV."""
    return "\n".join(",".join(row) for row in [list(rows[0]), *(row.values() for row in rows)]).encode()


def parquet_of(rows: list[dict[str, str]]) -> bytes:
    """``rows`` as Parquet."""
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


def listed(
    name: str, layout: str, listing: str, seeds: list[bytes], mutate: Callable[..., bytes], below: str = ""
) -> Target:
    """A dataset of three pictures whose list is fuzzed: counted, hashed and verified."""
    folder = new_folder("list")
    for number, part in enumerate(("good/a.png", "good/b.png", "bad/c.png")):
        place(folder / below / part, picture("PNG", "RGB", compress_level=number))
        place(folder / "images" / part[-5:], picture("PNG", ("L", "RGB", "RGBA")[number]))
    place(folder / below / "bad/c_mask.png", mask("PNG"))
    place(folder / listing, seeds[0])
    keys = {
        "id": "fuzzed",
        "title": "Fuzzed",
        "layout": layout,
        "root": str(folder),
        "licence": "none",
        "source": "none",
    }
    dataset = Dataset.model_validate(keys | {"strict": False})

    def read(data: bytes) -> None:
        (folder / listing).write_bytes(data)
        contents(dataset, Hashes())
        build_manifest(dataset)

    return Target(name, seeds, read, mutate, (str(folder), "dataset fuzzed"), folder)


def drawn() -> Target:
    """A list of draws against a manifest of three images."""
    folder = new_folder("draws")
    path = folder / "draws.csv"
    rows = [
        Row(f"cat/train/good/{name}", "cat", "train", 0, "good", f"good/{name}.png", None, name * 64, SIDE, SIDE, "RGB")
        for name in "abd"
    ]
    manifest = Manifest("fuzzed", False, [], rows)

    def read(data: bytes) -> None:
        path.write_bytes(data)
        listed_draw(manifest, path, 1, len(data) % 2)

    return Target("lists-draws", [DRAWS.encode()], read, either(of_csv, of_csv, of_bytes), (path.name,), folder)


def of_labels(data: bytes, random: Random, others: object = ()) -> bytes:
    """Edit the labels, whose columns stand behind two spaces."""
    return of_csv(data.replace(b"  ", b" "), random, (), " ")


CSV = either(of_csv, of_csv, of_bytes)
TARGETS: dict[str, Callable[[], Target]] = {
    "lists-csv": partial(listed, "lists-csv", "table", "images.csv", [csv_of(ROWS)], CSV),
    "lists-parquet": partial(
        listed, "lists-parquet", "table", "images.parquet", [parquet_of(ROWS)], either(of_parquet, of_parquet, of_bytes)
    ),
    "lists-visa": partial(listed, "lists-visa", "visa", "split_csv/1cls.csv", [VISA.encode()], CSV),
    "lists-real-iad": partial(
        listed,
        "lists-real-iad",
        "real-iad",
        "realiad_jsons/cat.json",
        [json.dumps(REAL_IAD).encode()],
        either(of_json, of_json, of_bytes),
        "realiad_1024/cat",
    ),
    "lists-elpv": partial(
        listed, "lists-elpv", "elpv", "labels.csv", [ELPV.encode()], either(of_labels, of_labels, of_bytes)
    ),
    "lists-draws": drawn,
}
