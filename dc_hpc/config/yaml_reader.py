"""Reads strict YAML for grids and site profiles: plain values, or one line that says what is wrong.

Plain YAML reads `1e-3` as a string, `off` as False and `12:30` as 750; it lets a key appear twice, and 400
bytes of aliases expand to millions of values. Here PyYAML only splits the text into events. The values are
made below, by the core rules of YAML 1.2, and an ambiguous value is refused with its line.
"""

from __future__ import annotations

import difflib
import math
import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml

from dc_hpc.errors import InputError

MAX_BYTES = 1 << 20
MAX_DEPTH = 20
MAX_VALUES = 100_000  # as many as a grid may have points; more only take time
INT64 = range(-(2**63), 2**63)

_WORDS: dict[str, bool | None] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_WORDS |= {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
# A leading zero makes neither a number nor an octal: 007 and the commit 00e5 stay the strings they look like.
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_ZERO = re.compile(r"[-+]?[0.]*[1-9]")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")

Key = str | int


@dataclass(frozen=True)
class Document:
    """A YAML document: `data` in plain dicts, lists, strings, numbers, bools, None; `name` for messages."""

    data: dict[str, Any]
    name: str
    _lines: dict[tuple[Key, ...], int] = field(repr=False, compare=False)

    def line(self, path: tuple[Key, ...] = ()) -> int:
        """The 1-based line of a key or item, like ("sweep", "k", 2); where it is missing, of what is around it."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines[path]


def read_yaml(path: str | os.PathLike[str]) -> Document:
    """The document in a file of at most 1 MiB. Raises InputError, one line `path:line: ...`, for all else."""
    name = short(str(path), 200)
    try:
        # Opening a named pipe would wait for ever, hence O_NONBLOCK and the check of the file type.
        with open(path, "rb", opener=lambda file, flags: os.open(file, flags | os.O_NONBLOCK)) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise InputError(f"{name}: not a regular file; give the path of a YAML file")
            content = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        near = _nearest_file(Path(path))
        raise InputError(f"{name}: no such file; give the path of a YAML file{near}") from None
    except IsADirectoryError:
        raise InputError(f"{name}: a folder; give the path of a YAML file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        why = getattr(error, "strerror", None) or error
        raise InputError(f"{name}: cannot be read ({why}); check the path and its permissions") from None
    _check_size(len(content), name)
    try:
        return parse_yaml(content.decode("utf-8"), name)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{name}:{line}: not UTF-8, the only encoding allowed; save it as UTF-8") from None


def parse_yaml(text: str, name: str) -> Document:
    """The document in `text`; messages begin with `name`. Raises InputError."""
    _check_size(len(text), name)
    reader = _Reader(text, name)
    data = reader.document()
    if not isinstance(data, dict):
        reader.refuse(reader.lines[()], "the document is not a mapping; write lines of `key: value`")
    return Document(data, name, reader.lines)


def parse_scalar(text: str) -> Any:
    """One value by the same rules, for `--set key=value`: a scalar or a list like `[5, 20]`."""
    name = f"value {shown(text)}"
    _check_size(len(text), name)
    reader = _Reader(text, name, numbered=False)
    data = reader.document()
    if isinstance(data, dict) or (isinstance(data, list) and not text.lstrip().startswith("[")):
        reader.refuse(1, "must be one value or a list like [5, 20]; put other text in quotes")
    if text[reader.end :].strip():
        reader.refuse(1, "there is a comment or marker beside it; remove it, or put the whole text in quotes")
    return data


def did_you_mean(word: object, allowed: Iterable[str]) -> str:
    """`; did you mean "k"?` with the allowed word most like `word`, or nothing where none is near."""
    by_lower = {each.lower(): each for each in allowed}
    close = difflib.get_close_matches(str(word)[:64].lower(), by_lower, n=1)
    return f'; did you mean "{by_lower[close[0]]}"?' if close else ""


def shown(text: object) -> str:
    """`text` in quotes for a message: on one line, printable and short."""
    return f'"{short(str(text), 40)}"'


def short(text: str, limit: int) -> str:
    """`text` on one line, printable, of at most `limit` letters."""
    line = "".join(letter if letter.isprintable() else "?" for letter in text[: limit + 1])
    return line if len(line) <= limit else line[: limit - 3] + "..."


def _nearest_file(path: Path) -> str:
    try:
        names = {each.stem.lower(): each.name for each in path.parent.iterdir() if each.suffix == ".yaml"}
    except (OSError, ValueError):
        return ""
    # without the ending, which makes all names alike
    close = difflib.get_close_matches(path.stem[:64].lower(), names, n=1)
    return f'; did you mean "{names[close[0]]}"?' if close else ""


def _check_size(size: int, name: str) -> None:
    if size > MAX_BYTES:
        raise InputError(f"{short(name, 200)}: larger than the {MAX_BYTES} bytes allowed; split it")


class _Reader:
    """Turns the events of one text into values, and remembers the line of each."""

    def __init__(self, text: str, name: str, *, numbered: bool = True):
        self.text, self.name, self.numbered = text, short(name, 200), numbered
        self.lines: dict[tuple[Key, ...], int] = {(): 1}
        self.end = 0  # index in `text` just behind the value
        self.values = 0

    def refuse(self, line: int, what: str) -> NoReturn:
        where = f"{self.name}:{line}" if self.numbered else self.name
        raise InputError(f"{where}: {what}") from None

    def document(self) -> Any:
        """The value of the only document; None for an empty text."""
        try:
            self.loader: Any = yaml.SafeLoader(self.text)  # its events have no types
        except yaml.reader.ReaderError as error:
            line = self.text.count("\n", 0, error.position) + 1
            self.refuse(line, "a control character, which is not allowed; retype the line in a text editor")
        self._next()  # the start of the stream
        if isinstance(self._next(), yaml.StreamEndEvent):
            return None
        first = self._next()
        self.lines[()] = first.start_mark.line + 1
        data = self._value(first, ())
        self._next()  # the end of the document
        after = self._next()
        if not isinstance(after, yaml.StreamEndEvent):
            self.refuse(after.start_mark.line + 1, "a second document, one is allowed; delete from the `---`")
        return data

    def _next(self) -> Any:
        try:
            event = self.loader.get_event()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            what = short(" ".join(f"{error.context or ''} {error.problem or ''}".split()), 160)
            line = mark.line + 1 if mark else self.loader.line + 1
            self.refuse(line, f"not YAML ({what}); indent with spaces, close brackets, quote odd text")
        except (ValueError, OverflowError):  # PyYAML lets these through for escapes like "\UFFFFFFFF"
            self.refuse(self.loader.line + 1, "not YAML (an impossible number after \\ or %); correct it")
        if not isinstance(event, yaml.DocumentEndEvent | yaml.StreamEndEvent):
            self.end = event.end_mark.index
        return event

    def _value(self, event: Any, path: tuple[Key, ...]) -> Any:
        line = event.start_mark.line + 1
        self.values += 1
        if self.values > MAX_VALUES:
            self.refuse(line, f"more than the {MAX_VALUES} values allowed; split it, or write ranges like 1..100")
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            self.refuse(line, "anchors (&) and aliases (*) are not allowed; write the value out or quote it")
        if event.tag is not None:
            self.refuse(line, f"tags like {shown(event.tag)} are not allowed; remove it, or put it in quotes")
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, line)
        if len(path) >= MAX_DEPTH:
            self.refuse(line, f"nested deeper than the {MAX_DEPTH} levels allowed; flatten it")
        return self._mapping(path) if isinstance(event, yaml.MappingStartEvent) else self._sequence(path)

    def _sequence(self, path: tuple[Key, ...]) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            here = (*path, len(items))
            self.lines[here] = event.start_mark.line + 1
            items.append(self._value(event, here))
        return items

    def _mapping(self, path: tuple[Key, ...]) -> dict[str, Any]:
        items: dict[str, Any] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            line = event.start_mark.line + 1
            key = self._value(event, path) if isinstance(event, yaml.ScalarEvent | yaml.AliasEvent) else None
            if not isinstance(key, str):
                self.refuse(line, "a key must be a string; write one word, or put it in quotes; a list is [5, 20]")
            if key == "<<":
                self.refuse(line, "merge keys (<<) are not allowed; write the keys out")
            if not key.isprintable():
                self.refuse(line, f"key {shown(key)} has characters that do not print; retype it")
            here = (*path, key)
            if key in items:
                first = self.lines[here]
                self.refuse(line, f"key {shown(key)} is here again, first on line {first}; remove one")
            self.lines[here] = line
            items[key] = self._value(self._next(), here)
        return items

    def _scalar(self, event: yaml.ScalarEvent, line: int) -> Any:
        text = event.value
        if not text.replace("\n", "").replace("\t", "").isprintable():
            self.refuse(line, f"{shown(text)} has characters that do not print; retype it")
        if not event.implicit[0]:  # in quotes, or a block: a string whatever it looks like
            return text
        if text in _WORDS:
            return _WORDS[text]
        if _INT.fullmatch(text):
            if len(text) > 20 or int(text) not in INT64:
                self.refuse(line, f"{shown(text)} does not fit into 64 bits; write a float or quote it")
            return int(text)
        if _NOT_FINITE.fullmatch(text):
            self.refuse(line, f"{shown(text)} is not allowed, numbers are finite; write null or a number")
        return self._float(text, line) if _FLOAT.fullmatch(text) else text

    def _float(self, text: str, line: int) -> float:
        value = float(text)
        if math.isinf(value) or (value == 0 and _NOT_ZERO.match(text)):
            self.refuse(line, f"{shown(text)} is outside the range of floats, 5e-324 to 1.7e308; correct it")
        return value
