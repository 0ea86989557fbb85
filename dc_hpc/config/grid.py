"""Reads a grid: one YAML file of a person -> the list of runs that it asks for.

base: svhn                   # a baseline of the paper
protocol: code               # text (what the paper says) or code (what its authors ran)
fixed: {cycles: 100}         # settings that differ from the baseline, the same in every run
sweep:                       # a cartesian product; a list of such blocks is their union
  k: [10, 50, 100, 500]
  seed: 1..100               # a range, both ends included
  zip: {lr: [0.1, 0.05], batch_size: [64, 256]}    # lists walked side by side
resources: {minutes: 360}
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dc_hpc.config.baselines import BASELINES, PROTOCOLS, protocol_of
from dc_hpc.config.explain import explain
from dc_hpc.config.key_names import unknown_key, value_meant
from dc_hpc.config.own_nets import is_own_net, net_digest
from dc_hpc.config.run_config import RunConfig, make_config, run_id
from dc_hpc.config.yaml_reader import Document, parse_scalar, read_yaml, short
from dc_hpc.data.catalog import DATASETS
from dc_hpc.data.custom import find_custom_data
from dc_hpc.data.digests import PartDigests, part_digests
from dc_hpc.errors import InputError

TOP_KEYS = ("base", "protocol", "fixed", "sweep", "resources")
SETTINGS = tuple(name for name, one in RunConfig.declared.items() if one.in_grids)
LARGEST_GRID = 100_000
Place = tuple[str | int, ...]  # keys and indices that lead to a value of the file; or ("--set", key)

_RANGE = re.compile(r"(\d{1,9})\.\.(\d{1,9})")


class Resources(BaseModel):
    """What one task of the cluster gets; it changes no result."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    minutes: Annotated[int, Field(ge=1, le=100_000, description="time limit of a task, in minutes")] = 240
    runs_per_task: Annotated[int, Field(ge=1, le=10_000, description="runs that a task computes")] = 1
    parallel_runs: Annotated[int, Field(ge=1, le=1_000, description="runs of a task that compute at the same time")] = 1


@dataclass(frozen=True)
class Grid:
    """The points of a grid in the order of the file, each a whole RunConfig.

    Two points may be one run: halting after the last cycle is never halting. `runs` holds each run once.
    """

    name: str
    path: Path
    points: tuple[RunConfig, ...]
    resources: Resources

    @cached_property
    def runs(self) -> dict[str, RunConfig]:
        """run_id -> RunConfig, each run once, in the order of the points."""
        return {run_id(point): point for point in self.points}


def read_grid(path: Path, *, data_root: Path, overrides: Mapping[str, Any] | None = None) -> Grid:
    """Read and expand a grid; InputError with file and line for whatever is wrong in it.

    overrides: settings from `--set`. One that the grid sweeps over is replaced there (a list sweeps over other
    values), any other replaces the baseline's and the grid's fixed value. data_root is where a person's own images
    lie; their digest becomes part of the run. A net of a person's own is a file in the current folder, of which only
    the digest is taken.
    """
    document = read_yaml(path)
    _check_keys(document, (), TOP_KEYS, "grid")
    for key in ("base", "protocol", "sweep"):
        if key not in document.data:
            raise InputError(f"{document.name}: {key} is missing; a grid has {', '.join(TOP_KEYS)}")
    base = _choice(document, "base", document.data["base"], BASELINES)
    _choice(document, "protocol", document.data["protocol"], PROTOCOLS[base])  # also where all blocks sweep over it
    blocks = _blocks(document, dict(overrides or {}))
    fixed = _fixed(document, overrides or {}, blocks)
    default = {"protocol": document.data["protocol"]}
    given = [(block.where, default | fixed | point) for block in blocks for point in _product(block)]
    _refuse_duplicates(document, [settings for _, settings in given])
    digests = _OwnDigests(data_root, Path.cwd())
    points = tuple(_point(document, where, base, one, digests, overrides or {}) for where, one in given)
    return Grid(path.stem, path, points, _resources(document))


def parse_override(text: str) -> tuple[str, Any]:
    """`key=value` of `--set`, the value read as in a grid: `cycles=2`, `k=[5, 20]`, `seed=1..3`, `pca=off`."""
    key, equals, value = text.partition("=")
    named = short(text, 100)
    if not equals:
        raise InputError(f"--set {named}: write key=value, for example --set cycles=2")
    if key not in SETTINGS:
        raise InputError(f"--set {named}: {unknown_key(key, 'settings', SETTINGS)}")
    try:
        return key, parse_scalar(value)
    except InputError as error:
        raise InputError(f"--set {named}: {error}") from None


def parse_overrides(texts: Iterable[str]) -> dict[str, Any]:
    """The settings of all `--set`; InputError where one is given twice, as for a key that a grid has twice."""
    settings: dict[str, Any] = {}
    for text in texts:
        key, value = parse_override(text)
        if key in settings:
            raise InputError(f"--set {key} is given twice; give it once, for several values as a list like [5, 20]")
        settings[key] = value
    return settings


@dataclass(frozen=True)
class _Block:
    """One block of a sweep: its place, the values of each setting, and of the settings that are walked side by side."""

    where: Place
    axes: dict[str, list[Any]]
    zipped: dict[str, list[Any]]

    def settings(self) -> set[str]:
        """The settings that the block sweeps over."""
        return set(self.axes) | set(self.zipped)

    def size(self) -> int:
        """The number of its points."""
        side_by_side = len(next(iter(self.zipped.values()))) if self.zipped else 1
        return side_by_side * math.prod(len(axis) for axis in self.axes.values())


def _blocks(document: Document, overrides: dict[str, Any]) -> list[_Block]:
    """The sweep blocks with the overrides in each of them: in place of what it sweeps over, else as one more axis."""
    sweep = document.data["sweep"]
    several = isinstance(sweep, list)
    blocks: list[_Block] = []
    for index, block in enumerate(sweep if several else [sweep]):
        where: Place = ("sweep", index) if several else ("sweep",)
        if not isinstance(block, dict) or not block:
            space = "; write a space behind the colon" if isinstance(block, str) and ":" in block else ""
            raise _problem(document, where, f"sweep must map settings to lists, for example {{seed: 1..5}}{space}")
        _check_keys(document, where, (*SETTINGS, "zip"))
        axes = {
            key: _axis(document, ("--set", key), overrides[key])
            if key in overrides
            else _axis(document, (*where, key), values)
            for key, values in block.items()
            if key != "zip"
        }
        zipped = _zipped(document, (*where, "zip"), block["zip"], overrides) if "zip" in block else {}
        if both := [key for key in zipped if key in axes]:
            raise _problem(document, (*where, both[0]), f"{both[0]} is both swept and zipped; keep one of them")
        blocks.append(_Block(where, axes, zipped))
        _check_size(document, blocks)
    if not blocks:
        raise _problem(document, ("sweep",), "sweep is empty; give at least one setting, for example {seed: 1..5}")
    for key, value in overrides.items():
        for block in blocks:
            if key not in block.settings():
                block.axes[key] = _axis(document, ("--set", key), value)
    _check_size(document, blocks)
    return blocks


def _check_size(document: Document, blocks: list[_Block]) -> None:
    """Refuse a grid that is too large, before any of its points is made."""
    size = sum(block.size() for block in blocks)
    if size > LARGEST_GRID:
        raise InputError(f"{document.name}: {size} points; a grid has at most {LARGEST_GRID}, so split it")


def _zipped(document: Document, where: Place, lists: Any, overrides: dict[str, Any]) -> dict[str, list[Any]]:
    if not isinstance(lists, dict) or len(lists) < 2:
        raise _problem(document, where, "zip pairs two settings or more, for example {k: [5, 20], seed: [1, 2]}")
    _check_keys(document, where, SETTINGS)
    changed = [key for key in lists if key in overrides]
    if changed:
        raise InputError(f"--set {changed[0]}: {document.name} zips this key with others; edit the grid instead")
    axes = {key: _axis(document, (*where, key), values) for key, values in lists.items()}
    lengths = {key: len(values) for key, values in axes.items()}
    if len(set(lengths.values())) > 1:
        raise _problem(document, where, f"zip needs lists of one length, not {lengths}")
    return axes


def _axis(document: Document, where: Place, values: Any) -> list[Any]:
    """The values that one key takes: a list, a range, or a single value."""
    key = str(where[-1])
    items = values if _sweeps(key, values) and isinstance(values, list) else [values]
    expanded: list[Any] = []
    for item in items:
        expanded += _range(document, where, item)
        if len(expanded) > LARGEST_GRID:
            raise _problem(
                document, where, f"{key} takes too many values, a grid has at most {LARGEST_GRID} points; split it"
            )
    if not expanded:
        raise _problem(document, where, f"{key} is an empty list; give at least one value")
    return expanded


def _range(document: Document, where: Place, item: Any) -> list[Any]:
    match = _RANGE.fullmatch(item) if isinstance(item, str) else None
    if not match:
        return [item]
    first, last = int(match[1]), int(match[2])
    if not first <= last < first + LARGEST_GRID:
        turned = f"; write {last}..{first}" if last < first else ""
        raise _problem(document, where, f"range {item} must go upwards and hold at most {LARGEST_GRID} values{turned}")
    return list(range(first, last + 1))


def _sweeps(key: str, value: Any) -> bool:
    """Whether a value is swept over: a list or a range; for a setting that is itself a list, a list of lists."""
    if RunConfig.is_list(key):
        return isinstance(value, list) and any(isinstance(item, list) for item in value)
    return isinstance(value, list) or (isinstance(value, str) and bool(_RANGE.fullmatch(value)))


def with_overrides(content: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a grid's file with settings from `--set` written into it, where `read_grid` would put them."""
    blocks = content["sweep"] if isinstance(content["sweep"], list) else [content["sweep"]]
    swept = {key for block in blocks for key in block}
    axes = {key: value for key, value in overrides.items() if key in swept or _sweeps(key, value)}
    blocks = [{**block, **axes} for block in blocks]
    fixed = {key: value for key, value in (content.get("fixed") or {}).items() if key not in overrides}
    fixed |= {key: value for key, value in overrides.items() if key not in {*axes, "protocol"}}
    protocol = content["protocol"] if "protocol" in axes else overrides.get("protocol", content["protocol"])
    sweep = blocks if isinstance(content["sweep"], list) else blocks[0]
    return {**content, "protocol": protocol, "fixed": fixed, "sweep": sweep}


def _fixed(document: Document, overrides: Mapping[str, Any], blocks: list[_Block]) -> dict[str, Any]:
    fixed = document.data.get("fixed") or {}
    if not isinstance(fixed, dict):
        raise _problem(document, ("fixed",), "fixed must map settings to values, for example {cycles: 100}")
    if fixed:
        _check_keys(document, ("fixed",), SETTINGS)
    twice = [key for key in fixed if all(key in block.settings() for block in blocks) and key not in overrides]
    if twice:
        raise _problem(document, ("fixed", twice[0]), f"{twice[0]} is both fixed and swept; keep one of them")
    protocol = document.data["protocol"]
    if fixed.get("protocol", protocol) != protocol:
        line = document.line(("protocol",))
        raise _problem(document, ("fixed", "protocol"), f"protocol is {protocol} on line {line}; keep one of them")
    return fixed


def _product(block: _Block) -> Iterator[dict[str, Any]]:
    axes = [[{key: value} for value in values] for key, values in block.axes.items()]
    if block.zipped:
        axes.append([dict(zip(block.zipped, values)) for values in zip(*block.zipped.values())])
    for parts in itertools.product(*axes):
        yield {key: value for part in parts for key, value in part.items()}


def _refuse_duplicates(document: Document, settings: list[dict[str, Any]]) -> None:
    seen = set()
    for one in settings:
        point = json.dumps(one, sort_keys=True)
        if point in seen:
            raise InputError(f"{document.name}: the point {short(point, 300)} is there twice; remove one of them")
        seen.add(point)


def _point(
    document: Document,
    block: Place,
    base: str,
    given: dict[str, Any],
    digests: _OwnDigests,
    overrides: Collection[str],
) -> RunConfig:
    """One point: the baseline, the protocol's fields, then what the grid gives.

    block: the place of its block of the sweep. overrides: the settings of --set.
    """
    protocol = _choice(document, "protocol", given["protocol"], PROTOCOLS[base], overrides, block)
    own = {key: _meant(key, value) for key, value in given.items() if key != "protocol"}
    settings = BASELINES[base] | PROTOCOLS[base][protocol] | own
    try:
        config = make_config(settings | {"protocol": protocol_of(base, settings)})
        return config.model_copy(update=digests(config))
    except InputError as error:
        # Two settings that do not fit together: the file may give only one of them.
        named = (error.key, *(word for word in str(error).split() if word in SETTINGS))
        source = next(filter(None, (_source_of_key(document, key, overrides, block) for key in named)), document.name)
        raise InputError(f"{source}: {error}") from None


def _meant(key: str, value: Any) -> Any:
    """The value that a person means by off, on, never, or one item instead of a list."""
    none_words = RunConfig.words_for_none(key)
    if RunConfig.is_list(key):
        items = value if isinstance(value, list) else [value]
        return () if none_words and len(items) == 1 and items[0] in (*none_words, None) else tuple(items)
    if isinstance(value, str) and value in none_words:
        return None
    if RunConfig.types_of(key) == {bool} and value in ("on", "off"):
        return value == "on"
    return value


class _OwnDigests:
    """The digests of a person's own images and of the file of their own net, as settings; none for what is known."""

    def __init__(self, data_root: Path, net_folder: Path):
        self.data_root, self.net_folder = data_root, net_folder
        self.nets: dict[str, str] = {}
        self.images: dict[str, PartDigests | None] = dict.fromkeys(DATASETS)

    def __call__(self, config: RunConfig) -> dict[str, str]:
        """`train_digest`, `test_digest`, `net_digest`, those that a run has; InputError where files are missing."""
        images = self._of_images(config.dataset)
        found = images.settings(probed=bool(config.probe)) if images else {}
        return found | ({"net_digest": self._of_net(config.net)} if is_own_net(config.net) else {})

    def _of_net(self, net: str) -> str:
        if net not in self.nets:
            self.nets[net] = net_digest(net, self.net_folder)
        return self.nets[net]

    def _of_images(self, name: str) -> PartDigests | None:
        if name not in self.images:
            path = find_custom_data(name, self.data_root)
            if path is None and (stem := self._without_ending(name)):
                raise InputError(f"dataset {name!r} is not allowed; write {stem}, without the ending", key="dataset")
            if path is None:
                raise InputError(
                    f"dataset {name!r} is neither one of {', '.join(DATASETS)} nor in {self.data_root} as "
                    f"{name}.npz, {name}.zip or folder {name}{self._meant(name)}; put it there or give --data",
                    key="dataset",
                )
            self.images[name] = part_digests(path)
        return self.images[name]

    def _without_ending(self, name: str) -> str:
        """`tiny` for tiny.npz where that file is, "" otherwise."""
        stem, ending = Path(name).stem, Path(name).suffix
        return stem if ending in (".npz", ".zip") and find_custom_data(stem, self.data_root) else ""

    def _meant(self, name: str) -> str:
        """The official data set, or one of a person's own, with such a name."""
        own = [path.stem for path in self.data_root.glob("*") if path.suffix in (".npz", ".zip")]
        return value_meant(name, [*DATASETS, *own])


def _resources(document: Document) -> Resources:
    given = document.data.get("resources") or {}
    if not isinstance(given, dict):
        raise _problem(document, ("resources",), "resources must be a mapping, for example {minutes: 60}")
    if given:
        _check_keys(document, ("resources",), tuple(Resources.model_fields), "resources")
    try:
        return Resources(**given)
    except ValidationError as error:
        problem = explain(error, Resources)
        raise _problem(document, ("resources", problem.key or ""), str(problem)) from None


def _check_keys(document: Document, where: Place, allowed: tuple[str, ...], place: str = "settings") -> None:
    block: Any = document.data
    for step in where:
        block = block[step]
    for key in block:
        if key not in allowed:
            raise _problem(document, (*where, key), unknown_key(key, place, allowed))


def _choice(
    document: Document,
    key: str,
    value: Any,
    allowed: Mapping[str, Any],
    overrides: Collection[str] = (),
    block: Place | None = None,
) -> str:
    if not isinstance(value, str) or value not in allowed:
        source = _source_of_key(document, key, overrides, block) or document.name
        given, near = short(repr(value), 100), value_meant(str(value), allowed)
        raise InputError(f"{source}: {key} {given} is not allowed{near}; allowed: {', '.join(allowed)}")
    return value


def _problem(document: Document, where: Place, message: str) -> InputError:
    if where[:1] == ("--set",):
        return InputError(f"{document.name}, --set {where[-1]}: {message}")
    return InputError(f"{document.name}:{document.line(where)}: {message}")


def _source_of_key(document: Document, key: str | None, overrides: Collection[str], block: Place | None) -> str:
    """Where a setting comes from: `FILE, --set KEY`, or `FILE:LINE` where it is in the file; "" for the baseline's.

    block: the place of the block of the sweep that the point is of; None for a key of the whole grid.
    """
    if key is None:
        return ""
    if key in overrides:
        return f"{document.name}, --set {key}"
    # in the order in which they take effect: another block may have the key, too, with another value
    places: list[Place] = [] if block is None else [(*block, key), (*block, "zip", key), ("fixed", key)]
    for place in (*places, (key,)):
        found: Any = document.data
        for step in place[:-1]:
            found = found[step] if isinstance(step, int) else (found or {}).get(step)
        if found and key in found:
            return f"{document.name}:{document.line(place)}"
    return ""
