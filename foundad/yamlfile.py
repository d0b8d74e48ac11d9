"""Reads one YAML file: returns plain values, or raises one line that says what is wrong.

This is the only reader of YAML. It returns mappings with texts as keys, lists, texts, numbers, booleans and null, of
bounded depth and size, without cycles or repeated keys, so that callers need not check this again. What the keys mean
is decided in :mod:`foundad.plan.catalogue` and :mod:`foundad.config`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from foundad.errors import UserError

LARGEST_FILE = 1 << 20  # bytes; usual configs have a few hundred
DEEPEST = 32  # levels of nested mappings and lists
MOST_VALUES = 50_000  # with all aliases expanded
LARGEST_INT = 2**31 - 1  # tables hold 32-bit integers
LONGEST_NUMBER = 100  # characters
CODEPOINTS = {"\t", "\n"}  # control characters that a text may hold
PLAIN_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("map", "seq", "str", "int", "float", "bool", "null", "merge")}
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Wrong(Exception):
    """What is wrong with a file, and in which line (counted from 1) if that is known."""

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason)
        self.line = line


def read_mapping(path: Path) -> dict[str, Any]:
    """The ``key: value`` lines of the YAML file ``path``.

    Raises:
        UserError: the file cannot be read, is not valid YAML, or is not a mapping of plain values; one line.
    """
    try:
        values = _parsed(_text(path))
        if not isinstance(values, dict):
            raise _Wrong("must hold 'key: value' lines" + ("; it is empty" if values is None else ""))
        _check(values)
        return values
    except _Wrong as error:
        where = f" line {error.line}:" if error.line else ""
        raise UserError(f"{path}:{where} {error}") from None


def check_plain(values: Any, source: str) -> None:
    """Raise UserError naming ``source`` if ``values``, made by another reader, are not what this reader may return."""
    try:
        _check(values)
    except _Wrong as error:
        raise UserError(f"{source}: {error}") from None


def shown(value: object, longest: int = 80) -> str:
    """``value`` quoted for a message: on one line, cut to ``longest`` characters."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        text = f"a {type(value).__name__} too large to show"
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except IsADirectoryError:
        raise _Wrong("is a folder, not a YAML file; rename or remove it") from None
    except OSError as error:
        raise _Wrong(f"cannot be read: {error.strerror or error}") from None
    if len(data) > LARGEST_FILE:
        raise _Wrong(f"is larger than {LARGEST_FILE >> 20} MiB, the limit of a config; shorten it")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _Wrong("is not written in UTF-8; save it as UTF-8", line) from None


def _line(node: "yaml.Node | yaml.Event") -> int | None:
    mark = node.start_mark
    return None if mark is None else mark.line + 1


def _parsed(text: str) -> Any:
    try:
        _check_depth(text)
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
            if root is None:
                return None
            _check_nodes(loader, root)
            return loader.construct_document(root)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at column {mark.column + 1}" if mark else ""
        reason = " ".join(
            str(getattr(error, "problem", None) or getattr(error, "reason", None) or "unreadable").split()
        )
        raise _Wrong(f"is not valid YAML{where}: {reason}", mark.line + 1 if mark else None) from None


def _check_depth(text: str) -> None:
    """Checks the depth before nodes are built, because the builder recurses once per level."""
    if sum(text.count(sign) for sign in "[{-?:") <= DEEPEST:
        return
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEEPEST:
                raise _Wrong(f"more than {DEEPEST} nested lists and mappings", _line(event))
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _check_nodes(loader: Any, root: yaml.Node) -> None:
    """Refuses cycles, repeated keys, values of other types, and too many values with all aliases expanded."""
    sizes: dict[int, int] = {}
    around: set[int] = set()

    def size(node: yaml.Node) -> int:
        line = _line(node)
        if id(node) in around:
            raise _Wrong("a list or mapping that holds itself (an alias inside its own anchor)", line)
        if id(node) not in sizes:
            around.add(id(node))
            if node.tag not in PLAIN_TAGS:
                raise _Wrong(_foreign(node), line)
            if isinstance(node, yaml.ScalarNode):
                _check_scalar(loader, node)
            elif isinstance(node, yaml.MappingNode):
                _check_keys(node)
            sizes[id(node)] = 1 + sum(size(inner) for inner in _inner(node))
            around.remove(id(node))
            if sizes[id(node)] > MOST_VALUES:
                raise _Wrong(f"holds more than {MOST_VALUES} values", line)
        return sizes[id(node)]

    size(root)


def _inner(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            yield value


def _foreign(node: yaml.Node) -> str:
    if node.tag.endswith(":timestamp"):
        return f"{shown(node.value)} is a date to YAML; put it in quotes"
    return f"the tag {shown(node.tag.replace('tag:yaml.org,2002:', '!!'))} has no meaning here; leave it out"


def _check_scalar(loader: Any, node: yaml.ScalarNode) -> None:
    kind = node.tag.rpartition(":")[2]
    if kind in ("int", "float") and len(node.value) > LONGEST_NUMBER:
        raise _Wrong(f"a number of {len(node.value)} characters; shorten it", _line(node))
    if kind in ("int", "float", "bool"):
        try:
            loader.construct_object(node)  # the loader keeps it
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError):
            raise _Wrong(f"{shown(node.value)} is not a valid {kind}; put a text in quotes", _line(node)) from None


def _check_keys(node: yaml.MappingNode) -> None:
    seen: set[str] = set()
    for key, _ in node.value:
        line = _line(key)
        if not isinstance(key, yaml.ScalarNode) or key.tag.rpartition(":")[2] not in ("str", "merge"):
            what = shown(key.value) if isinstance(key, yaml.ScalarNode) else "a list or mapping"
            raise _Wrong(f"the key {what} is not a text; put it in quotes", line)
        if key.value in seen:
            raise _Wrong(f"the key {shown(key.value)} appears twice; keep one", line)
        seen.add(key.value)


def _check(values: Any) -> None:
    """Allows only values of the types that this module's docstring names."""
    left: list[tuple[Any, str, int]] = [(values, "", 0)]
    count = 0
    while left:
        value, key, depth = left.pop()
        count += 1
        if count > MOST_VALUES or depth > DEEPEST:
            limit = f"{MOST_VALUES} values" if count > MOST_VALUES else f"{DEEPEST} nested lists and mappings"
            raise _Wrong(f"key '{_top(key)}': more than {limit}")
        if isinstance(value, dict):
            for name, inner in value.items():
                if not isinstance(name, str):
                    raise _Wrong(f"{_of(key)}the key {shown(name)} is not a text; put it in quotes")
                _check_text(name, key, CODEPOINTS - {"\n"})
                left.append((inner, f"{key}.{name}" if key else name, depth + 1))
        elif isinstance(value, list | tuple):
            left += [(inner, f"{key}.{number}", depth + 1) for number, inner in enumerate(value)]
        elif isinstance(value, str):
            _check_text(value, key, CODEPOINTS)
        elif isinstance(value, int):
            if abs(value) > LARGEST_INT:
                raise _Wrong(f"{_of(key)}a number beyond {LARGEST_INT}")
        elif value is not None and not isinstance(value, float):
            raise _Wrong(f"{_of(key)}{shown(value)} is neither text, number, list nor mapping; put it in quotes")


def _check_text(text: str, key: str, allowed: set[str]) -> None:
    if not text.isprintable() and any(
        (ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000) and c not in allowed for c in text
    ):
        raise _Wrong(f"{_of(key)}{shown(text)} holds a control character; remove it")


def _of(key: str) -> str:
    named = f"'{key}'" if key.isprintable() else shown(key)
    return f"key {named}: " if key else ""


def _top(key: str) -> str:
    return key.partition(".")[0]
