# ruff: noqa: E501 - lists of odd values
"""Mutations of bytes and of structures, each a function of an input, a random generator and the other seeds.

Structured ones keep what would hide the rest: checksums of PNG chunks and tar headers, the length of a safetensors header,
the frame of a zip. Every one falls back to plain bytes where the structure is already broken.
"""

import csv
import io
import json
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

NUMBERS = (
    0,
    1,
    2,
    3,
    7,
    8,
    16,
    127,
    128,
    255,
    256,
    257,
    4096,
    32767,
    32768,
    65535,
    65536,
    2**24,
    2**31 - 1,
    2**31,
    2**32 - 1,
)
WORDS = (
    b"\0", b"\n", b"\r\n", b"\xff\xfe", b"\xef\xbb\xbf", b"\x80", b"\xe2\x80\xa8", b"../bait.png", b"/etc/passwd", b"-1", b"1e999",
    b"nan", b"null", b"{", b"[", b'"', b"'", b",", b";", b":", b"\\", b"%", b"%s", b"{0}", b"$HOME", b"~", b"A" * 300, b"\xf0\x9f\x98\x80",
)  # fmt: skip
Picked = Callable[[bytes, Random], bytes]


def of_bytes(data: bytes, random: Random, others: Sequence[bytes] = ()) -> bytes:
    """One to four plain edits: flips, cuts, insertions, copies, integers, words, and parts of other seeds."""
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        data = _edit(bytearray(data), random, others)
    return data


def _edit(data: bytearray, random: Random, others: Sequence[bytes]) -> bytes:
    start = random.randrange(len(data) + 1)
    stop = min(len(data), start + random.choice((1, 2, 4, 8, 32, 256)))
    kind = random.randrange(9)
    if kind <= 1 and start < len(data):
        data[start] = (
            data[start] ^ (1 << random.randrange(8))
            if kind
            else random.choice((0, 1, 127, 128, 255, random.randrange(256)))
        )
    elif kind == 2:
        del data[start:]
    elif kind == 3:
        del data[start:stop]
    elif kind == 4:
        data[start:start] = bytes(random.randrange(256) for _ in range(random.choice((1, 2, 8, 64))))
    elif kind == 5:
        data[start:start] = data[start:stop] * random.choice((1, 2, 50))
    elif kind == 6:
        form = random.choice(("<H", ">H", "<I", ">I", "<Q", ">Q"))
        value = random.choice(NUMBERS) + random.choice((-1, 0, 0, 0, 1))
        packed = struct.pack(form, value % (1 << 8 * struct.calcsize(form)))
        data[start : start + len(packed)] = packed
    elif kind == 7:
        data[start : random.choice((start, stop))] = random.choice(WORDS)
    elif others:
        other = random.choice(others)
        cut = random.randrange(len(other) + 1)
        data[start:] = other[cut:]
    return bytes(data)


def either(*mutations: Callable[..., bytes]) -> Callable[..., bytes]:
    """One of these at a time; one that finds no structure gives way to plain bytes."""

    def mutate(data: bytes, random: Random, others: Sequence[bytes] = ()) -> bytes:
        try:
            return random.choice(mutations)(data, random, others)
        except Exception:
            return of_bytes(data, random, others)

    return mutate


# ---------------------------------------------------------------------------------------------------- text

ODD = (
    "2020-99-99", "2020-01-01", "12:30:45", "!!int x", "!!float x", "!!binary x", "!!timestamp x", "!!python/object:os.system x",
    "!!set {a, b}", "!!omap [a: 1]", "0b_", "0x_", "0o_", "0b", "1_0", ".", "._", "-", "+", "~", "null", "true", "no", ".nan", ".inf",
    "-.inf", "NaN", "1e400", "-1", "0", "3", "3.5", "1" * 400, "1" * 5000, "[]", "{}", "[null]", "{null: null}", "{1: 2}", "{[a]: b}", "{{a: b}: c}", "? [a]",
    "&a [*a]", "&a {b: *a}", "*a", "*missing", "<<", "{<<: 3}", "{<<: [3]}", "[" * 40 + "]" * 40, "[" * 3000, "{a: " * 1500, "'", '"',
    '"\\x00"', '"\\ud800"', '"\\u2028x"', '"a\\nb"', "|", ">", "%", "@", "`", "#", "é", "a b", "A" * 300, "../bait", "/", "..", ".", "",
    "demo", "paper", "{demo: 1, paper: 2}", "{demo: null, paper: []}", "{demo: [1], paper: {a: 1}}", "[1, a, null, 2.5]", "$HOME", "~root", "$X/y", "ab/../c",
    "9999999999999999999999999", "1e-400", "a: b", "- a", "!x y", "!<tag:yaml.org,2002:str> 1", "!!str", "!!null", "!!bool maybe", "=", "!!value x", "=: 3",
)  # fmt: skip
_SCALAR = re.compile(r"[^\s,\[\]{}:]+")


def of_yaml(data: bytes, random: Random, others: Sequence[bytes] = ()) -> bytes:
    """Replace a scalar by an odd one, or drop, double, rename, indent or move a line."""
    text = data.decode()
    for _ in range(random.choice((1, 1, 2))):
        lines = text.splitlines() or [""]
        number = random.randrange(len(lines))
        kind = random.randrange(9)
        if kind <= 3:
            found = list(_SCALAR.finditer(text)) or [re.compile("").match(text)]
            place = random.choice(found)
            assert place is not None
            text = text[: place.start()] + random.choice(ODD) + text[place.end() :]
            continue
        if kind == 4:
            del lines[number]
        elif kind == 5:
            lines.insert(number, lines[random.randrange(len(lines))])
        elif kind == 6:
            key, colon, _ = lines[number].partition(":")
            lines[number] = f"{key}{colon} {random.choice(ODD)}"
        elif kind == 7:
            lines[number] = (
                " " * random.choice((1, 2, 4)) + lines[number] if random.random() < 0.5 else lines[number].lstrip()
            )
        else:
            other = random.choice(list(others) or [data]).decode(errors="replace").splitlines() or [""]
            lines[number : number + random.choice((0, 1))] = other[: random.choice((1, 2, 5))]
        text = "\n".join(lines)
    return text.encode(errors="surrogatepass")


VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3.5, 1e300, float("nan"), float("inf"), 2**31, 2**63, 2**64, 10**30, "", "x", "../bait.png", "/etc/passwd",
    "a\nb", "a\0b", "\ud800", "é", "x" * 300, [], {}, [None], [1, 2], ["a"], [[]], {"a": 1}, {"": None},
)  # fmt: skip


def of_tree(tree: Any, random: Random) -> Any:
    """``tree`` (of JSON) with one value replaced, dropped, doubled or renamed somewhere in it."""
    if isinstance(tree, dict) and tree and random.random() < 0.9:
        key, kind = random.choice(list(tree)), random.randrange(8)
        if kind == 0:
            return {name: value for name, value in tree.items() if name != key}
        if kind == 1:
            return {(f"{key}x" if name == key else name): value for name, value in tree.items()}
        if kind == 2:
            return tree | {key: tree[random.choice(list(tree))]}
        if kind == 3:
            return tree | {random.choice(("", "x", "__metadata__", "a\nb")): random.choice(VALUES)}
        return tree | {key: of_tree(tree[key], random)}
    if isinstance(tree, list) and tree and random.random() < 0.9:
        number, kind = random.randrange(len(tree)), random.randrange(5)
        if kind == 0:
            return tree[:number] + tree[number + 1 :]
        if kind == 1:
            return [*tree, tree[number]]
        if kind == 2:
            return tree[::-1]
        return [*tree[:number], of_tree(tree[number], random), *tree[number + 1 :]]
    if isinstance(tree, int) and not isinstance(tree, bool) and random.random() < 0.5:
        return tree + random.choice((-1, 1, 8, 100))
    return random.choice(VALUES)


def of_json(data: bytes, random: Random, others: Sequence[bytes] = ()) -> bytes:
    """Edit the tree of a JSON file."""
    tree = json.loads(data)
    for _ in range(random.choice((1, 1, 2, 4))):
        tree = of_tree(tree, random)
    return json.dumps(tree).encode()


CELLS = (
    "", " ", "0", "1", "-1", "normal", "anomalous", "train", "test", "nan", "../bait.png", "/etc/passwd", "a/../b.png", "a\\b", "a\0b", "a\nb", '"', "'", ";",
    "x" * 300, "x" * 140_000, "é", "\ufeff", "1e999", "1_0", "good/a.png", ".", "./", "a/.", "C:\\x", "\u2028", "~", "$HOME", " a", "inf", "0.0", "1.0",
)  # fmt: skip


def of_csv(data: bytes, random: Random, others: Sequence[bytes] = (), delimiter: str = ",") -> bytes:
    """Edit cells, rows, columns, the delimiter or the encoding of a CSV."""
    rows = list(csv.reader(io.StringIO(data.decode()), delimiter=delimiter))
    encoding = "utf-8"
    for _ in range(random.choice((1, 1, 2))):
        row, kind = random.randrange(len(rows)), random.randrange(10)
        cell = random.randrange(max(1, len(rows[row])))
        if kind <= 4:
            rows[row][cell : cell + 1] = [random.choice(CELLS)]
        elif kind == 5:
            del rows[row][cell : cell + random.choice((1, 9))]
        elif kind == 6:
            rows.insert(row, list(rows[random.randrange(len(rows))]))
        elif kind == 7:
            del rows[row]
            rows = rows or [[]]
        elif kind == 8:
            delimiter = random.choice(";\t |,")
        else:
            encoding = random.choice(("utf-16", "latin-1", "utf-8-sig", "utf-32"))
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator=random.choice(("\n", "\r\n", "\r"))).writerows(rows)
    return out.getvalue().encode(encoding, errors="replace")


# ---------------------------------------------------------------------------------------------------- pictures


def of_png(data: bytes, random: Random, others: Sequence[bytes] = ()) -> bytes:
    """Edit, drop, double or move chunks, with their checksums made right."""
    start, chunks = 8, []
    while start < len(data):
        (length,) = struct.unpack(">I", data[start : start + 4])
        chunks.append((data[start + 4 : start + 8], data[start + 8 : start + 8 + length]))
        start += 12 + length
    number = random.randrange(len(chunks))
    name, body = chunks[number]
    kind = random.randrange(6)
    if kind <= 1:
        chunks[number] = (name, of_bytes(body, random))
    elif kind == 2:
        fields = list(struct.unpack(">IIBBBBB", chunks[0][1]))
        place = random.randrange(7)
        fields[place] = random.choice(
            (0, 1, 2, 3, 4, 6, 7, 8, 16, 32, 255) if place > 1 else (0, 1, 7, 9, 17, 3000, 60000, 2**31 - 1, 2**32 - 1)
        )
        chunks[0] = (chunks[0][0], struct.pack(">IIBBBBB", *fields))
    elif kind == 3:
        extra = random.choice(
            (
                b"tRNS",
                b"PLTE",
                b"eXIf",
                b"iCCP",
                b"acTL",
                b"fcTL",
                b"fdAT",
                b"zTXt",
                b"iTXt",
                b"tEXt",
                b"gAMA",
                b"pHYs",
                b"sBIT",
            )
        )
        filling = random.choice(
            (
                b"",
                b"\0",
                b"x\0\0" + zlib.compress(b"y" * 999),
                b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0",
                body[:99],
            )
        )
        chunks.insert(
            random.randrange(1, len(chunks) + 1),
            (extra, of_bytes(filling, random) if random.random() < 0.5 else filling),
        )
    elif kind == 4:
        chunks.insert(number, random.choice(chunks))
    else:
        del chunks[number]
    parts = (struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in chunks)
    return data[:8] + b"".join(parts)


def of_tiff(data: bytes, random: Random, others: Sequence[bytes] = ()) -> bytes:
    """Edit a field of an entry of the first directory: tag, type, count or value."""
    order = "<" if data[:2] == b"II" else ">"
    (start,) = struct.unpack(f"{order}I", data[4:8])
    (count,) = struct.unpack(f"{order}H", data[start : start + 2])
    entry = start + 2 + 12 * random.randrange(count)
    changed = bytearray(data)
    kind = random.randrange(4)
    if kind == 0:
        struct.pack_into(
            f"{order}H",
            changed,
            entry,
            random.choice((256, 257, 258, 259, 262, 273, 274, 277, 278, 279, 282, 284, 317, 320, 339, 34665, 700)),
        )
    elif kind == 1:
        struct.pack_into(f"{order}H", changed, entry + 2, random.choice((0, 1, 2, 3, 4, 5, 7, 11, 12, 13, 16, 99)))
    else:
        struct.pack_into(f"{order}I", changed, entry + (4 if kind == 2 else 8), random.choice(NUMBERS))
    return bytes(changed)


# ---------------------------------------------------------------------------------------------------- tensors and archives


def of_safetensors(data: bytes, random: Random, others: Sequence[bytes] = ()) -> bytes:
    """Edit the JSON header (of its metadata the JSON within), or numbers of the tensors."""
    (length,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    kind = random.randrange(6)
    if kind == 0 and body:
        filling = bytearray(body)
        size = random.choice((1, 2, 4))
        start = random.randrange(len(body)) // size * size
        filling[start : start + size] = random.choice(
            (b"\xff" * size, b"\0" * size, struct.pack("<f", float("nan"))[-size:])
        )
        body = bytes(filling)
    elif kind <= 3 and "foundad" in header.get("__metadata__", {}):
        facts = json.loads(header["__metadata__"]["foundad"])
        for _ in range(random.choice((1, 1, 2))):
            facts = of_tree(facts, random)
        header["__metadata__"]["foundad"] = json.dumps(facts)
    elif kind == 4:
        names = [name for name in header if name != "__metadata__"]
        one, other = random.choice(names), random.choice(names)
        header[one], header[other] = header[other], header[one]
        if one == other:
            header[random.choice(("x", one + "x", one[1:]))] = header.pop(one)
    else:
        header = of_tree(header, random)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


ENTRY_NAMES = (
    "../bait.png",
    "/tmp/bait.png",
    "a/../../bait.png",
    "",
    ".",
    "..",
    "a\0b",
    "C:\\x",
    "\\\\x\\y",
    "x" * 300,
    "a/" * 200 + "b",
    "é",
    "a\n b",
    "\ud800"[:0],
    "a",
    "a/b",
    "a/",
)


def of_zip(data: bytes, random: Random, others: Sequence[bytes] = ()) -> bytes:
    """Edit, rename, drop or double members, or change how they are packed and what they claim to be."""
    with zipfile.ZipFile(io.BytesIO(data)) as source:
        members = [(info, source.read(info)) for info in source.infolist()]
    number, kind = random.randrange(len(members)), random.randrange(7)
    info, body = members[number]
    if kind <= 2:
        members[number] = (info, of_bytes(body, random, [found for _, found in members]))
    elif kind == 3:
        info.filename = random.choice(ENTRY_NAMES)
    elif kind == 4:
        members.insert(number, members[random.randrange(len(members))])
    elif kind == 5:
        del members[number]
    else:
        info.external_attr = random.choice((0o120777, 0o060666, 0o040755, 0o100000, 0)) << 16
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as target:
        for entry, filling in members:
            entry.compress_type = random.choice(
                (zipfile.ZIP_STORED,) * 4 + (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
            )
            target.writestr(entry, filling)
    packed = out.getvalue()
    return of_bytes(packed, random) if random.random() < 0.15 else packed


def of_tar(data: bytes, random: Random, others: Sequence[bytes] = ()) -> bytes:
    """Edit a header with its checksum made right, or add a member of another kind."""
    changed = bytearray(data)
    starts = [start for start in range(0, len(data) - 511, 512) if data[start + 257 : start + 262] == b"ustar"]
    start = random.choice(starts)
    field, size = random.choice(
        ((0, 100), (100, 8), (108, 8), (116, 8), (124, 12), (136, 12), (156, 1), (157, 100), (257, 8), (345, 155))
    )
    filling = random.choice(
        [name.encode() for name in ENTRY_NAMES] + [b"7" * size, b"\xff" * size, b"-1", b"\x80" + b"\0" * 7 + b"\x7f" * 4, b"00000001000\0", b"abc"]
        + [bytes([value]) for value in b"0123456789gxLKSDVN\0A"]
    )  # fmt: skip
    changed[start + field : start + field + size] = filling[:size].ljust(size, b"\0")
    changed[start + 148 : start + 156] = b" " * 8
    changed[start + 148 : start + 156] = b"%06o\0 " % sum(changed[start : start + 512])
    if random.random() < 0.2:
        extra = tarfile.TarInfo(random.choice(("x", "../bait.png", "a/b", "d")))
        extra.type = random.choice(
            (
                tarfile.SYMTYPE,
                tarfile.LNKTYPE,
                tarfile.CHRTYPE,
                tarfile.DIRTYPE,
                tarfile.FIFOTYPE,
                tarfile.GNUTYPE_SPARSE,
            )
        )
        extra.linkname = random.choice(("/etc", "..", "a", ""))
        changed[start:start] = extra.tobuf()
    return bytes(changed)


def packed(
    pack: Callable[[bytes], bytes], unpack: Callable[[bytes], bytes], mutate: Callable[..., bytes]
) -> Callable[..., bytes]:
    """``mutate`` what is inside a compression."""
    return lambda data, random, others=(): pack(mutate(unpack(data), random, ()))


def of_parquet(data: bytes, random: Random, others: Sequence[bytes] = ()) -> bytes:
    """Rewrite with a column dropped, renamed, retyped or emptied, rows changed, or the metadata's JSON edited."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(data))
    names = table.column_names
    number, kind = random.randrange(len(names)), random.randrange(9)
    if kind == 0:
        table = table.drop_columns([names[number]])
    elif kind == 1:
        table = table.rename_columns([name + "x" * (place == number) for place, name in enumerate(names)])
    elif kind == 2:
        to = random.choice((pa.string(), pa.int64(), pa.float32(), pa.binary(), pa.large_string(), pa.bool_()))
        values = table.column(number).to_pylist()
        column = pa.array([str(value) for value in values]) if to == pa.string() else pa.nulls(table.num_rows, to)
        table = table.set_column(number, names[number], column)
    elif kind == 3:
        table = table.set_column(number, names[number], pa.nulls(table.num_rows, table.schema.field(number).type))
    elif kind == 4:
        table = table.slice(0, random.randrange(table.num_rows + 1))
    elif kind == 5:
        table = pa.concat_tables([table, table.slice(random.randrange(max(1, table.num_rows)), 1)])
    elif kind == 6:
        values = table.column(number).to_pylist()
        old = [value for value in values if value is not None]
        new = random.choice((float("nan"), -1e300, 0.0)) if old and isinstance(old[0], float) else random.choice(CELLS)
        if old and isinstance(old[0], int) and not isinstance(old[0], bool):
            new = random.choice((-1, 0, 127))
        values[random.randrange(max(1, len(values)))] = new
        table = table.set_column(number, names[number], pa.array(values, table.schema.field(number).type))
    elif kind == 7:
        table = table.append_column(random.choice(("x", "", names[0])), pa.nulls(table.num_rows))
    else:
        metadata = dict(table.schema.metadata or {})
        metadata[b"foundad"] = of_json(metadata.get(b"foundad", b"{}"), random) if random.random() < 0.8 else b"{"
        table = table.replace_schema_metadata(metadata if random.random() < 0.9 else None)
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()
