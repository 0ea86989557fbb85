"""Says how the settings of runs differ from those of a claim, and which command runs what a claim lacks."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from dc_hpc.config.baselines import PROTOCOLS
from dc_hpc.report.claims.plans import Plan
from dc_hpc.report.frames.schema import setting_cell
from dc_hpc.report.panels.grouping import DIGESTS, Cell, base_of, setting, shown
from dc_hpc.report.panels.panel import Panel


def unlike_paper(panel: Panel, group: Cell, plan: Plan) -> str:
    """The settings of a group that neither protocol has: `cycles 2 (the paper: 100)`.

    The protocol itself is named where it is neither, or where the claim is about runs of another year of the authors'
    program.
    """
    protocol = group.settings.get("protocol")
    wrong = []
    if protocol == "mixed":
        wrong.append("protocol mixed")
    elif protocol == "code" and plan.protocol not in ("code", "text"):
        wrong.append(f"protocol code (the paper: {plan.protocol})")
    for name, value, paper in _differences(panel, group):
        whose = "planned" if name == "draws" else "the paper"  # a plan has our draws; the paper's are the authors'
        wrong.append(f"{name} {shown(name, value)} ({whose}: {shown(name, paper)})")
    others = {row["dataset"] for row in group.rows} - {group.settings.get("dataset")}
    wrong += [f"dataset {name} (the paper: {base_of(name)})" for name in sorted(others) if base_of(name) != name]
    return "; ".join(wrong)


def command(claim: str, panel: Panel, group: Cell, plan: Plan) -> str:
    """The command that runs what a claim lacks in the settings of a group."""
    protocols, protocol = PROTOCOLS[panel.base], group.settings.get("protocol")
    sets = {name: value for name, value, _ in _differences(panel, group)}
    if protocol in protocols and protocol != plan.protocol:
        sets["protocol"] = protocol
    # Two views belong to code_2021, so that its name alone does not say which of them the group has.
    asked = {**protocols.get(sets.get("protocol", plan.protocol), {}), **_planned(plan)}
    for name in protocols.get(plan.protocol, {}) if protocol else ():
        value = group.settings.get(name)
        if name in group.settings and value != setting_cell(name, asked[name]):
            sets[name] = value
    parts = [f"python -m dc_hpc.submit --claim {claim}"]
    parts += [f"--set {shlex.quote(f'{name}={shown(name, value)}')}" for name, value in sets.items()]
    return " ".join(parts)


def _planned(plan: Plan) -> Mapping[str, Any]:
    """The settings in which all grids of a plan are changed to one value."""
    (first, *others) = plan.grids.values()
    return {name: value for name, value in first.items() if all(one.get(name) == value for one in others)}


def _differences(panel: Panel, group: Cell) -> list[tuple[str, Any, Any]]:
    """(name, value, the paper's value) of the settings that differ from the baseline and are no part of a protocol."""
    expected = panel.baseline_settings()
    own = {name for fields in PROTOCOLS[panel.base].values() for name in fields} | {*DIGESTS, *panel.axis}
    found = []
    for name, value in group.settings.items():
        paper = setting({name: setting_cell(name, expected[name])}, name) if name in expected else value
        if name not in own and name != "protocol" and value != paper:
            found.append((name, value, paper))
    return found
