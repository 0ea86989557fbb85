"""Says in words what a key of a grid or a site profile may hold, from its type: for messages and for the reference."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from dc_hpc.config.own_nets import PATTERN as OWN_NET_PATTERN

# The words for the patterns of strings, beside the patterns themselves. The first letter of a name has fewer choices.
NAME_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$"
WORD_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9._:/=,@+-]{0,127}$"
OPTION_PATTERN = r"^[A-Za-z0-9_\[(*][A-Za-z0-9._:/=,@+|&*()\[\]-]{0,999}$"
LINE_PATTERN = r"^[^\n\r\x00]{1,500}$"
_PATTERNS = {
    NAME_PATTERN: "a word of at most 64 letters, digits and . _ - that does not begin with . or -",
    WORD_PATTERN: "a word of at most 128 letters, digits and . _ : / = , @ + - that begins with a letter, digit or _",
    OPTION_PATTERN: "a word of at most 1000 letters, digits and . _ : / = , @ + - | & * ( ) [ ]",
    OWN_NET_PATTERN: "module:function for a net of your own",
    LINE_PATTERN: "one line of at most 500 characters",
}
# Words that become a part of a shell script: nothing in them may end a line or start a command. (In pydantic's
# regular expressions $ matches only at the very end; python's would also match before a last newline.)
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Word = Annotated[str, Field(pattern=WORD_PATTERN)]
OptionValue = Annotated[str, Field(pattern=OPTION_PATTERN)]
Line = Annotated[str, Field(pattern=LINE_PATTERN)]


def allowed(model: type[BaseModel], name: str) -> str:
    """What the field of a model may hold: `a whole number from 1 to 100, or never`.

    The word for None comes from the model's `words_for_none`, where it has one.
    """
    none_words: tuple[str, ...] = getattr(model, "words_for_none", lambda _: ())(name)
    schema = _schema(model)[name]
    words = _words(schema, none_words[0] if none_words else "null")
    return f"{words}, or {none_words[0]}" if none_words and schema.get("type") == "array" else words


@functools.cache
def validator(model: type[BaseModel], name: str) -> TypeAdapter[Any]:
    """Checks a value of one field, as strictly as the model does."""
    field = model.model_fields[name]
    annotation: Any = Annotated[field.annotation, field]
    return TypeAdapter(annotation, config=ConfigDict(strict=True))


@functools.cache
def _schema(model: type[BaseModel]) -> Mapping[str, Any]:
    schema: Mapping[str, Any] = model.model_json_schema()["properties"]
    return schema


def _words(schema: Mapping[str, Any], none_word: str) -> str:
    if "anyOf" in schema:
        return ", or ".join(_words(one, none_word) for one in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return ", ".join(schema.get("enum") or [schema["const"]])
    kind = schema.get("type")
    if kind == "integer":
        return f"a whole number{_limits(schema)}"
    if kind == "number":
        return f"a number{_limits(schema)}"
    if kind == "string":
        return _PATTERNS.get(schema.get("pattern", ""), "a word")
    if kind == "array":
        return f"a list, each item {_words(schema['items'], none_word)}"
    if kind == "object":
        inner: Mapping[str, Any] = next(iter(schema.get("patternProperties", {}).values()), {})
        return f"a mapping, each value {_words(inner, none_word)}"
    return {"boolean": "on or off", "null": none_word}.get(str(kind), "any value")


def _limits(schema: Mapping[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f" from {low:.0f} to {high:.0f}"
    lower = f" of at least {low:.0f}" if low is not None else f" above {above:.0f}" if above is not None else ""
    upper = f" of at most {high:.0f}" if high is not None else f" below {below:.0f}" if below is not None else ""
    return f"{lower} and{upper}" if lower and upper else lower or upper
