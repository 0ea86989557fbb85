"""Finds what a person meant by a value that is not allowed: `1-5` is a range, `"5"` a number, `no` is `off`.

A form is suggested only where it is a value that the key may have.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from dc_hpc.config.allowed import validator
from dc_hpc.config.settings import DeclaredSettings

_RANGE = re.compile(r"[\[(]?\s*(\d{1,9})\s*(?:-|:|\.{2,3}|to|,\s*\.{2,3}\s*,)\s*(\d{1,9})\s*[\])]?")
_PYTHON_RANGE = re.compile(r"(?:np\.a)?range\(\s*(?:(\d{1,9})\s*,\s*)?(\d{1,9})\s*\)", re.I)
_LIST = re.compile(r"[\[({]?\s*([^\s,;\[\](){}]+(?:\s*[,;\s]\s*[^\s,;\[\](){}]+)+)\s*,?\s*[\])}]?")
_LONGEST = 300  # no form that a person means is longer; the patterns take long on a text of a megabyte
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_WITH_UNIT = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z%]+)")
_CLOCK = re.compile(r"(?:(\d+)-)?(\d+):(\d\d)(?::\d\d)?")
_DASHES = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2212"), "-")
_TRUE, _FALSE = ("yes", "y", "true", "t", "1", "on"), ("no", "n", "false", "f", "0", "off")
_NONE = (*_FALSE, "none", "null", "nil", "nan", "inf", "-1", "-", "never", "disabled", "full", "~", "")
# Words for one of a few allowed values.
_OTHER_WORDS: Mapping[str, Mapping[str, str]] = {
    "sobel": dict.fromkeys(("on", "true", "yes", "1"), "fixed") | dict.fromkeys(("none", "false", "no", "0"), "off"),
    "features": dict.fromkeys(("all", "true", "yes", "on"), "every") | dict.fromkeys(("off", "no", "false"), "none"),
    "training_view": dict.fromkeys(("off", "no", "false"), "none"),
    "labels": {"supervised": "on", "pseudo": "off"},
}
_MINUTES = {
    word: scale
    for words, scale in (("m min minutes", 1), ("h hr hours", 60), ("d days", 1440))
    for word in words.split()
}
_SECONDS = {word: scale for words, scale in (("s sec seconds", 1), ("m min minutes", 60)) for word in words.split()}
_GIB: Mapping[str, float] = {
    "g": 1,
    "gb": 1,
    "gib": 1,
    "m": 1 / 1024,
    "mb": 1 / 1000,
    "mib": 1 / 1024,
    "t": 1024,
    "tb": 1000,
}


def right_form(model: type[BaseModel], key: str, value: Any) -> str:
    """`; write 1..5 ...` where a person probably meant an allowed form, else nothing."""
    for text, meant, note in _candidates(model, key, value):
        try:
            for one in meant:
                validator(model, key).validate_python(one)
        except ValidationError:
            continue
        return f"; write {text}{note}"
    return ""


def _candidates(model: type[BaseModel], key: str, value: Any) -> Iterator[tuple[str, list[Any], str]]:
    """(text to write, the values that it stands for, a remark) of each form that may be meant, the likeliest first."""
    grid = issubclass(model, DeclaredSettings)
    if isinstance(value, list | tuple | dict):
        yield from _of_collections(key, value, grid=grid)
        return
    if isinstance(value, str) and len(value) > _LONGEST:
        return
    text = str(value).translate(_DASHES).strip().strip("\"'").strip()
    yield from _words(model, key, text, grid=grid)
    if isinstance(value, bool):
        return
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        yield str(int(value)), [int(value)], ""
    if isinstance(value, int):
        yield f'"{value}"', [str(value)], " in quotes"
    if isinstance(value, str):
        yield from _ranges(text) if grid else ()
        yield from _lists(text) if grid else ()
        yield from _numbers(key, text)
        if key == "dataset":
            yield Path(text).stem, [Path(text).stem], ", the name of a file or folder in the data folder"
        yield f"it as a list: [{text}]", [(text,)], ""


def _words(model: type[BaseModel], key: str, text: str, *, grid: bool) -> Iterator[tuple[str, list[Any], str]]:
    low = text.lower()
    if word := _OTHER_WORDS.get(key, {}).get(low):
        yield word, [{"on": True, "off": False}.get(word, word) if key == "labels" else word], ""
    if model.model_fields[key].annotation is bool:
        yield from [("on", [True], "")] if low in _TRUE else [("off", [False], "")] if low in _FALSE else []
    none_words = getattr(model, "words_for_none", lambda _: ())(key)
    if none_words and low in _NONE:
        yield none_words[0], [() if issubclass(model, DeclaredSettings) and model.is_list(key) else None], ""


def _ranges(text: str) -> Iterator[tuple[str, list[Any], str]]:
    if found := _RANGE.fullmatch(text):
        first, last = int(found[1]), int(found[2])
    elif found := _PYTHON_RANGE.fullmatch(text):
        first, last = int(found[1] or 0), int(found[2]) - 1
    else:
        return
    if first <= last:
        yield f"{first}..{last}", [first, last], " under sweep for a range, both ends included"


def _lists(text: str) -> Iterator[tuple[str, list[Any], str]]:
    if re.fullmatch(r"0,\d+", text):  # a decimal comma
        yield text.replace(",", "."), [float(text.replace(",", "."))], ""
    found = _LIST.fullmatch(text)
    if not found:
        return
    items = [_plain(item.strip("\"'")) for item in re.split(r"[,;\s]+", found[1])]
    shown = f"[{', '.join(map(str, items))}]"
    yield shown, [tuple(items)], ""
    yield shown, items, " under sweep for several values"


def _numbers(key: str, text: str) -> Iterator[tuple[str, list[Any], str]]:
    plain = _plain(text.replace("_", "") if re.fullmatch(r"\d[\d_]*", text) else text)
    if not isinstance(plain, str):
        yield str(plain), [plain], " without quotes" if str(plain) == text else ""
        if isinstance(plain, float) and plain.is_integer():
            yield str(int(plain)), [int(plain)], ""
    scale: Mapping[str, float] = {"minutes": _MINUTES, "signal_delay": _SECONDS, "memory_gb": _GIB}.get(key, {})
    if (found := _WITH_UNIT.fullmatch(text)) and found[2].lower() in scale:
        number = max(1, round(float(found[1]) * scale[found[2].lower()]))
        yield str(number), [number], ""
    if key == "gpus" and (found := re.fullmatch(r"(?:gpu:)?(\w+):(\d+)", text)):
        yield found[2], [int(found[2])], f", and the type as gpu_type: {found[1]}"
    if key == "minutes" and (found := _CLOCK.fullmatch(text)):
        number = int(found[1] or 0) * 1440 + int(found[2]) * 60 + int(found[3])
        yield str(number), [number], " minutes"


def _of_collections(key: str, value: Any, *, grid: bool) -> Iterator[tuple[str, list[Any], str]]:
    items = list(value)
    if isinstance(value, dict) and len(value) == 1 and key == "setup":
        (name, rest), *_ = value.items()
        line = f"{name}: {rest}"
        yield f"'{line}' in quotes, because of its colon", [(line,)], ""
    if grid and items and not isinstance(value, dict):
        yield f"[{', '.join(map(str, items))}]", items, " under sweep for several values"
    if not grid and items:
        joined = (" " if key == "container" else ",").join(map(str, items))
        yield joined, [joined], " without brackets"


def _plain(text: str) -> int | float | str:
    if not _NUMBER.fullmatch(text) or len(text) > 20:
        return text
    return int(text) if re.fullmatch(r"[-+]?\d+", text) else float(text)
