"""What `aggregate` prints: one screen of what matters or, with --verbose, every table, claim and missing run."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from dc_hpc.report.claims.catalog import count_verdicts
from dc_hpc.report.claims.table import measured_words, verdict_words, which_runs
from dc_hpc.report.findings import Findings, PanelFindings
from dc_hpc.report.frames.runs import records
from dc_hpc.report.grid_states import GridState, command, missing_text
from dc_hpc.report.panels.grouping import Row, training_of
from dc_hpc.report.run_tables import STATES, counts_of
from dc_hpc.report.tables.text_tables import markdown_of

_WIDTH = 120  # where the output is not a terminal
_LEAST_WIDTH, _MOST_WIDTH = 60, 160
_LINES_SHOWN, _NAMES_SHOWN = 10, 20
# Of one screen: troubled runs of a state, tables of sweeps and their lines, lines of verdicts.
_TROUBLED, _SWEEPS, _SWEEP_LINES, _VERDICT_LINES = 3, 2, 12, 24


def screen_width() -> int:
    """The columns of the terminal; 120 where the output goes elsewhere, so that it is always the same."""
    try:
        columns = os.get_terminal_size(sys.stdout.fileno()).columns if sys.stdout.isatty() else _WIDTH
    except (OSError, ValueError):
        columns = _WIDTH
    return max(_LEAST_WIDTH, min(columns or _WIDTH, _MOST_WIDTH))


def one_screen(findings: Findings, outputs: Path, *, width: int, only: bool = False) -> str:
    """Counts by state, one's own sweeps, the verdicts at the paper's settings, and what is missing; about a screen.

    outputs: where submit is to go on. only: whether a part of the report was asked for, so that the rest is left out.
    """
    blocks = [_counts(findings.rows, width, _TROUBLED)]
    for found in findings.sweeps[:_SWEEPS]:
        blocks += [markdown_of(table, most=_SWEEP_LINES, width=width) for table in found.tables[:1]]
    if len(findings.sweeps) > _SWEEPS:
        blocks.append(_more(len(findings.sweeps) - _SWEEPS, "sweep"))
    if findings.of_the_paper:
        blocks += [_verdicts(findings, width), _panels(findings.panels, width, detailed=only)]
        blocks.append(_missing_counts(findings.panels, outputs, width))
    return "\n".join(block.rstrip("\n") + "\n" for block in blocks if block)


def everything(findings: Findings, outputs: Path, *, width: int) -> str:
    """The runs, the first table of each sweep and panel with its warnings, the claims, and all that is missing."""
    blocks = [_counts(findings.rows, width, _NAMES_SHOWN)]
    for found in findings.shown:
        warnings = [_folded(f"! {line}", width) for line in found.mixed]
        blocks.append("\n".join([markdown_of(found.tables[0], most=_LINES_SHOWN, width=width), *warnings]))
    if findings.of_the_paper:
        judged = _judged(findings.verdicts)
        head = _folded(f"claims: {count_verdicts(findings.verdicts)}", width, indent=0)
        blocks.append("\n".join([head, *_claim_lines(judged, width)]))
        blocks.append(_missing(findings.panels, outputs, width))
    return "\n".join(block.rstrip("\n") + "\n" for block in blocks if block)


def _counts(rows: Sequence[Row], width: int, most: int) -> str:
    """The runs by state and by kind; the failed, the damaged and the done with a damaged record by name."""
    done = [row for row in rows if row["state"] == "done" and row.get("dataset")]
    kinds: dict[str, int] = {}
    for row in done:
        kinds[training_of(row)] = kinds.get(training_of(row), 0) + 1
    several = f" (done: {', '.join(f'{count} {kind}' for kind, count in kinds.items())})" if done else ""
    states = ", ".join(f"{count} {state}" for state, count in counts_of(rows, STATES).items())
    lines = [_folded(f"runs: {states}{several}", width, indent=0)]
    for state in ("failed", "damaged", "done"):
        found = [row for row in rows if row["state"] == state and (state != "done" or row.get("state_reason"))]
        for row in found[:most]:
            lines.append(_folded(f"{state}: {row['run_id']}: {row.get('state_reason') or 'no reason recorded'}", width))
        if len(found) > most:
            lines.append(f"  and {len(found) - most} more {state}, all in runs.csv")
    return "\n".join(lines)


def _judged(verdicts: pd.DataFrame) -> pd.DataFrame:
    return verdicts[verdicts["verdict"] != "not run"]


def _verdicts(findings: Findings, width: int) -> str:
    """The judged claims at the paper's settings, a line each, and how many there are at other settings."""
    judged = _judged(findings.verdicts)
    if judged.empty:
        return ""
    at_the_papers = judged[judged["unlike_paper"] == ""]
    head = f"claims of the paper that have runs: {count_verdicts(judged)}"
    lines = _claim_lines(at_the_papers, width)
    kept = [line for i, line in enumerate(lines) if "\n".join(lines[: i + 1]).count("\n") < _VERDICT_LINES]
    more = [f"  {_more(len(lines) - len(kept), 'claim')}"] if len(lines) > len(kept) else []
    return "\n".join([_folded(head, width, indent=0), *kept, *more])


def _claim_lines(verdicts: pd.DataFrame, width: int) -> list[str]:
    """Each claim, folded to the width: the verdict, which runs, the words, the statistic and its number."""
    lines = []
    for claim, which in zip(records(verdicts), which_runs(verdicts)):
        unlike = f" [{claim['unlike_paper']}]" if claim["unlike_paper"] else ""
        found = measured_words(claim)
        if "%" not in found:  # a share says by its unit what it is
            found = f"{claim['statistic']} {found}".rstrip()
        which = f"{claim['figure']}, {which}: {claim['words']}"
        text = f"{verdict_words(claim):<12}  {which}: {found}, n = {claim['n']}{unlike}"
        lines.append(_folded(text, width, hang=14))
    return lines


def _panels(panels: Sequence[PanelFindings], width: int, *, detailed: bool) -> str:
    """The names of the panels with runs or, where they were asked for, their tables."""
    found = [one for one in panels if one.tables]
    if detailed:
        return "\n".join(markdown_of(one.tables[0], most=_LINES_SHOWN, width=width) for one in found)
    names = ", ".join(one.panel.name for one in found)
    return _folded(f"tables and figures of the paper with runs: {names}", width, indent=0) if found else ""


def _missing_counts(panels: Sequence[PanelFindings], outputs: Path, width: int) -> str:
    """How many runs of the grids are missing, and the command that goes on with one."""
    grids = _grids(panels)
    problems = [_folded(f"{state.path} cannot be read: {state.problem}", width) for state in grids if state.problem]
    begun = [state for state in grids if state.missing and state.started]
    waiting = [state for state in grids if state.runs and not state.started]
    parts = []
    if begun:
        parts.append(f"{sum(len(state.missing) for state in begun)} runs of {_several(len(begun), 'begun grid')}")
    if waiting:
        parts.append(f"{_several(len(waiting), 'grid')} not begun")
    if not parts:
        return "\n".join(problems)
    line = f"missing of the grids in jobs/: {', '.join(parts)} (all in missing.csv); to go on, for example:"
    return "\n".join([*problems, _folded(line, width, indent=0), f"  {command((begun or waiting)[0], outputs)}"])


def _missing(panels: Sequence[PanelFindings], outputs: Path, width: int) -> str:
    """Which runs of the grids are missing, and the commands that compute them."""
    grids = _grids(panels)
    lines = [_folded(f"{state.path} cannot be read: {state.problem}", width) for state in grids if state.problem]
    for state in grids:
        if state.missing and state.started:
            lines += [_folded(f"{state.name}: {missing_text(state)}", width), f"  {command(state, outputs)}"]
    waiting = [state for state in grids if state.runs and not state.started]
    if waiting:
        names = ", ".join(f"{state.name} ({len(state.runs)})" for state in waiting)
        lines.append(_folded(f"not begun, with their number of runs: {names}", width))
        lines.append(f"  each by its name, e.g. {command(waiting[0], outputs)}")
    return "\n".join(lines)


def _grids(panels: Sequence[PanelFindings]) -> list[GridState]:
    return list({state.name: state for found in panels for state in found.grids}.values())


def _several(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def _more(count: int, noun: str) -> str:
    return f"and {_several(count, noun)} more: --verbose"


def _folded(text: str, width: int, *, indent: int = 2, hang: int = 4) -> str:
    return textwrap.fill(
        text,
        width,
        initial_indent=" " * indent,
        subsequent_indent=" " * (hang + 2),
        break_long_words=False,
        break_on_hyphens=False,
    )
