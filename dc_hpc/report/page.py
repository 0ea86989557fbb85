"""outputs/report.html: one file that opens anywhere, without a network. What it quotes is escaped."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import pandas as pd

from dc_hpc.config.baselines import BASELINES
from dc_hpc.report.claims.rules import VERDICTS
from dc_hpc.report.page_style import CSS, SCRIPT
from dc_hpc.report.panels.findings import (
    Finding,
    claims_table,
    provenance_table,
    settings_table,
    slowest_table,
    troubled_table,
)
from dc_hpc.report.panels.grouping import Row
from dc_hpc.report.panels.matching import GridState, command, missing_text
from dc_hpc.report.panels.paper import ENTRIES, TITLES
from dc_hpc.report.panels.tables import title_of
from dc_hpc.report.text_tables import Table

STATES = ("done", "running", "resumable", "failed", "new", "damaged")
_MOST_LINES = 60
_SIGNS = {"supported": "✓", "contradicted": "✕", "undecided": "?", "not run": "–"}
_SHOWN_DPI = 96 / 160  # figures are drawn with 160 dots an inch
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def page(rows: Sequence[Row], findings: Sequence[Finding], claims: pd.DataFrame, *, outputs: Path) -> str:
    """The whole page. rows: of `tables.records`. It holds no time, so that equal runs give an equal page."""
    found = [finding for finding in findings if finding.tables]
    body = [
        _top(rows, found),
        _claims(claims),
        *(
            _entry(name, [finding for finding in found if finding.panel in entry.panels], outputs)
            for name, entry in ENTRIES.items()
        ),
        _not_run(findings, outputs),
        _runs(rows),
        _provenance(rows),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f"<title>A Deep Dive into Deep Cluster: report</title>\n<style>{CSS}</style>\n</head>\n<body>\n"
        f'<div class="page">\n{"".join(body)}</div>\n<script>{SCRIPT}</script>\n</body>\n</html>\n'
    )


def _top(rows: Sequence[Row], found: Sequence[Finding]) -> str:
    counts = {state: sum(row["state"] == state for row in rows) for state in STATES}
    chips = "".join(f"<li><b>{count}</b>{state}</li>" for state, count in counts.items() if count or state == "done")
    hours = sum(row.get("seconds") or 0 for row in rows) / 3600
    chips += f"<li><b>{hours:.1f}</b>hours computed</li>"
    links = [("claims", "Claims")]
    links += [(name, _short(name)) for name, entry in ENTRIES.items() if any(f.panel in entry.panels for f in found)]
    links += [("not-run", "Not run yet"), ("runs", "Runs"), ("provenance", "Provenance")]
    nav = "".join(f'<a href="#{name}">{escape(word)}</a>' for name, word in links)
    return (
        '<header class="top"><div><h1>A Deep Dive into Deep Cluster</h1>'
        '<p class="soft">What the paper says, and what these runs say.</p></div>'
        '<button id="theme" type="button" title="Change between light and dark">Dark</button></header>\n'
        f'<ul class="counts">{chips}</ul>\n<nav aria-label="Contents">{nav}</nav>\n<main>\n'
    )


def _claims(claims: pd.DataFrame) -> str:
    table = claims_table(claims)
    marks = ["unlike" if claim["unlike_paper"] else "" for claim in claims.to_dict("records")]
    put = [line for line, verdict in zip(zip(table.lines, marks), claims["verdict"]) if verdict != "not run"]
    open_claims = [line for line, verdict in zip(zip(table.lines, marks), claims["verdict"]) if verdict == "not run"]
    rule = (
        "Supported: the whole 95 % interval lies where the paper says. Contradicted: none of it does. "
        "Undecided: it crosses an end, or there are too few runs for one. Grey lines have other settings than the "
        "paper's."
    )
    inner = f'<p class="soft small">{escape(rule)}</p>'
    if put:
        inner += _table(table, [line for line, _ in put], classes=[mark for _, mark in put])
    if open_claims:
        inner += f"<details><summary>{len(open_claims)} claims that no run speaks of yet</summary>"
        inner += _table(table, [line for line, _ in open_claims]) + "</details>"
    return f'<section id="claims"><h2>The claims of the paper</h2><div class="card">{inner}</div></section>\n'


def _entry(name: str, findings: Sequence[Finding], outputs: Path) -> str:
    if not findings:
        return ""
    entry = ENTRIES[name]
    where = "Beside the paper" if entry.section == "ours" else f"Section {entry.section} of the paper"
    cards = "".join(_card(finding, outputs) for finding in findings)
    return (
        f'<section id="{name}"><h2>{escape(entry.title)}</h2><p class="soft small">{escape(where)}</p>'
        f"{cards}</section>\n"
    )


def _card(finding: Finding, outputs: Path) -> str:
    table, *others = finding.tables
    says = f"<blockquote><b>The paper</b>{escape(finding.panel.says)}</blockquote>"
    parts = [
        f"<h3>{escape(_dataset(finding))} <span class=soft>{escape(finding.panel.name)}</span></h3>",
        says,
    ]
    if "png" in finding.pictures:
        parts.append(_picture(finding.pictures["png"], table.caption))
    if finding.error:
        parts.append(f'<p class="flag">The figure could not be drawn: {escape(finding.error)}</p>')
    parts.append(_table(table, table.lines))
    parts += [
        f"<details><summary>{escape(other.name)}, {len(other.lines)} lines</summary>"
        f"{_table(other, other.lines)}</details>"
        for other in others
    ]
    notes = [f'<li class="flag">{escape(line)}</li>' for line in finding.mixed]
    notes += [_missing(state, outputs) for state in finding.grids if state.missing or state.problem]
    parts.append(f'<ul class="notes">{"".join(notes)}</ul>' if notes else "")
    return f'<article class="card" id="{escape(finding.panel.name)}">{"".join(parts)}</article>\n'


def _picture(png: bytes, words: str) -> str:
    width = struct.unpack(">I", png[16:20])[0]  # the first chunk of a PNG starts with its width
    data = base64.b64encode(png).decode("ascii")
    return (
        f'<figure><img src="data:image/png;base64,{data}" width="{round(width * _SHOWN_DPI)}" loading="lazy" '
        f'alt="{escape(words)}"></figure>'
    )


def _missing(state: GridState, outputs: Path) -> str:
    if state.problem:
        return f'<li class="flag">{escape(str(state.path))} cannot be read: {escape(state.problem)}</li>'
    return f"<li>{escape(missing_text(state))}: <code>{escape(command(state, outputs))}</code></li>"


def _not_run(findings: Sequence[Finding], outputs: Path) -> str:
    """The panels without a single run, and the commands that make them."""
    lines, seen = [], set()
    for finding in findings:
        if finding.tables:
            continue
        grids = [state for state in finding.grids if not state.problem]
        commands = "<br>".join(f"<code>{escape(command(state, outputs))}</code>" for state in grids)
        runs = sum(len(state.missing) for state in grids if state.name not in seen)
        seen |= {state.name for state in grids}
        lines.append(
            f"<tr><td class=wide>{escape(title_of(finding.panel))} "
            f"<span class=soft>({escape(finding.panel.name)})</span></td>"
            f'<td class="n">{runs or ""}</td><td>{commands or "its grid is not at hand"}</td></tr>'
        )
    inner = "<p>Every table and figure has runs.</p>"
    if lines:
        head = _heads(["table or figure", "runs", "command"], [False, True, False])
        inner = f'<div class="scroll"><table>{head}<tbody>{"".join(lines)}</tbody></table></div>'
    return f'<section id="not-run"><h2>Not run yet</h2><div class="card">{inner}</div></section>\n'


def _runs(rows: Sequence[Row]) -> str:
    cards = []
    for state in ("failed", "damaged"):
        table = troubled_table(rows, state)
        if table.lines:
            cards.append(f'<div class="card"><h3>{state.capitalize()}</h3>{_table(table, table.lines)}</div>')
    for title, table in (("Slowest", slowest_table(rows)), ("Every setting", settings_table(rows))):
        if table.lines:
            cards.append(f'<div class="card"><h3>{title}</h3>{_table(table, table.lines)}</div>')
    return f'<section id="runs"><h2>Runs</h2>{"".join(cards)}</section>\n'


def _provenance(rows: Sequence[Row]) -> str:
    table = provenance_table(rows)
    commits = {row.get("commit") for row in rows if row["state"] == "done"}
    dirty = sum(bool(row.get("dirty")) for row in rows if row["state"] == "done")
    flags = [f"The done runs are of {len(commits)} commits."] if len(commits) > 1 else []
    flags += [f"Code changed since its commit made {_runs_text(dirty)}."] if dirty else []
    notes = "".join(f'<p class="flag">{escape(flag)}</p>' for flag in flags)
    inner = f"{notes}{_table(table, table.lines)}" if table.lines else "<p>No run is done.</p>"
    return f'<section id="provenance"><h2>Provenance</h2><div class="card">{inner}</div></section>\n</main>\n'


def _table(table: Table, lines: Sequence[Sequence[str]], classes: Sequence[str] = ()) -> str:
    """A sortable table; a long one shows its first lines and says where the rest is."""
    shown = list(lines[:_MOST_LINES])
    numeric = [all(_is_number(line[i]) for line in shown) for i in range(len(table.heads))]
    marks = list(classes) or [""] * len(shown)
    body = "".join(
        f"<tr{f' class={mark}' if mark else ''}>"
        + "".join(_cell(text, right) for text, right in zip(line, numeric))
        + "</tr>"
        for line, mark in zip(shown, marks)
    )
    more = len(lines) - len(shown)
    note = f'<p class="soft small">and {more} more lines in tables/{escape(table.name)}.csv</p>' if more > 0 else ""
    caption = escape(table.caption)
    return (
        f'<p class="soft small">{caption}</p><div class="scroll"><table aria-label="{caption}">'
        f"{_heads(table.heads, numeric)}<tbody>{body}</tbody></table></div>{note}"
    )


def _heads(names: Iterable[str], numeric: Sequence[bool]) -> str:
    cells = "".join(
        f'<th scope="col"{" class=n" if right else ""}><button type="button">{escape(name)}</button></th>'
        for name, right in zip(names, numeric)
    )
    return f"<thead><tr>{cells}</tr></thead>"


def _cell(text: str, right: bool) -> str:
    if text in VERDICTS:
        kind = "idle" if text == "not run" else text
        return f'<td><span class="badge {kind}">{_SIGNS[text]} {text}</span></td>'
    return f"<td{' class=n' if right else ' class=wide' if len(text) > 30 else ''}>{escape(text)}</td>"


def _is_number(text: str) -> bool:
    return text == "" or text.lstrip("-").replace(".", "", 1).isdigit()


def _runs_text(n: int) -> str:
    return f"{n} run{'s' * (n != 1)}"


def _dataset(finding: Finding) -> str:
    base = BASELINES[finding.panel.base]
    return TITLES[base["dataset"]] + (", AlexNet" if base["net"] == "alexnet" else "")


def _short(name: str) -> str:
    head, colon, _ = ENTRIES[name].title.partition(":")
    words = {
        "sobel": "Sobel",
        "ia_k": "IA by k",
        "ia_init": "IA by k-means init",
        "leak": "Leaked labels",
        "probe_layers": "Probed layers",
        "nmi": "NMI over cycles",
        "mnist_ia": "MNIST",
    }
    return words.get(name, head if colon else name)
