"""Turns the first problem that pydantic finds into one line: the key, its value, what is meant, what is allowed."""

from __future__ import annotations

from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from dc_hpc.config.allowed import allowed
from dc_hpc.config.right_forms import right_form
from dc_hpc.config.yaml_reader import did_you_mean, short
from dc_hpc.errors import InputError


def explain(error: ValidationError, model: type[BaseModel]) -> InputError:
    """The first problem of a pydantic error about a model, as an InputError with its key."""
    first = error.errors()[0]
    if first["type"] == "value_error":
        message = str(first["ctx"]["error"])
        return InputError(message, key=message.split()[0])
    key, value = str(first["loc"][0]), first["input"]
    if first["type"] == "missing":
        return InputError(f"{key} is missing; allowed: {allowed(model, key)}", key=key)
    if first["type"] == "extra_forbidden":
        known = tuple(model.model_fields)
        named = short(repr(key), 100)
        return InputError(f"unknown key {named}{did_you_mean(key, known)}; allowed: {', '.join(known)}", key=key)
    # The rest of a place names the kinds of a union that were tried, or the key of a mapping.
    is_mapping = get_origin(model.model_fields[key].annotation) is dict
    inner = [str(part) for part in first["loc"][1:2] if is_mapping]
    if "[key]" in first["loc"]:
        return InputError(f"{key}: {short(repr(value), 100)} is no name; write a long name without dashes", key=key)
    named, given = short(".".join([key, *inner]), 100), short(repr(value), 100)
    return InputError(
        f"{named} {given} is not allowed{_suggestion(model, first)}; allowed: {allowed(model, key)}", key=key
    )


def _suggestion(model: type[BaseModel], problem: Any) -> str:
    key, value = str(problem["loc"][0]), problem["input"]
    if form := right_form(model, key, value):
        return form
    parts = get_args(model.model_fields[key].annotation)
    words = [word for part in parts for word in (part, *get_args(part)) if isinstance(word, str)]
    return did_you_mean(value, words) if isinstance(value, str) else ""
