"""The table of the claims and their verdicts."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

from dc_hpc.report.claims.catalog import count_verdicts
from dc_hpc.report.claims.rules import p_words, why_words
from dc_hpc.report.frames.runs import records
from dc_hpc.report.tables.text_tables import Item, Table, number, span, table_of


def claims_table(claims: pd.DataFrame) -> Table:
    """The verdicts for people; claims.csv holds all columns."""
    rows = []
    for claim, which in zip(records(claims), which_runs(claims)):
        rows.append(
            [
                *(Item(name, claim[name]) for name in claims.columns),
                Item(None, head="verdict", text=verdict_words(claim)),
                Item(None, head="claim", text=claim["words"], role="setting"),
                Item(None, head="figure", text=claim["figure"], role="setting"),
                Item(None, head="runs", text=which, role="setting"),
                Item(None, head="found (95 % interval)", text=measured_words(claim)),
                Item(None, head="n", text=str(claim["n"])),
                Item(None, head="planned n", text=str(claim["planned_n"])),
                Item(None, head="p", text=p_words(claim["p"])),
                Item(None, head="p, Holm", text=p_words(claim["p_holm"])),
                Item(None, head="measured: where it should lie", text=rule_words(claim)),
                Item(
                    None,
                    head="why",
                    text="; ".join(filter(None, (_why(claim), _best_epoch(claim), claim["unlike_paper"]))),
                ),
            ]
        )
    return table_of("claims", f"The paper's claims: {count_verdicts(claims)}.", rows)


def verdict_words(claim: dict[str, Any]) -> str:
    """The verdict for people: `undecided (3 of 6 seeds)` before the planned number of seeds has run."""
    return f"{claim['verdict']} ({claim['reason']})" if _is_early(claim) else str(claim["verdict"])


def _is_early(claim: dict[str, Any]) -> bool:
    return claim["verdict"] == "undecided" and claim["n"] < claim["planned_n"]


def _why(claim: dict[str, Any]) -> str:
    """The reason that the verdict's words do not have, and whether the correction for many tests undoes the verdict."""
    return "" if _is_early(claim) else why_words(claim["verdict"], claim["reason"], claim["p_holm"])


def which_runs(claims: pd.DataFrame) -> list[str]:
    """Of each row data set, protocol and filter, and the settings that tell it apart from the other rows of its claim.

    `svhn, mixed, sobel fixed`; `fmnist, code, sobel off, 3 cycles` where the claim was judged of other cycles, too.
    """
    rows = records(claims)
    parts = [(row["setting"] or "").split(", ") for row in rows]
    of_claim: dict[tuple[str, str], list[list[str]]] = {}
    for row, own in zip(rows, parts):
        of_claim.setdefault((row["claim"], row["figure"]), []).append(own)
    found = []
    for row, own in zip(rows, parts):
        others = of_claim[row["claim"], row["figure"]]
        telling = [part for part in own if part and not all(part in other for other in others)]
        sobel = row["sobel"] and f"sobel {row['sobel']}"
        found.append(", ".join(part for part in (row["dataset"], row["protocol"], sobel, *telling) if part))
    return found


def rule_words(claim: dict[str, Any]) -> str:
    """The statistic of a claim and where it should lie; of a share in percent of the seeds."""
    rule = claim["rule"]
    if _is_share(claim):
        rule = re.sub(r"[0-9.]+", lambda found: f"{100 * float(found[0]):g}", rule) + " % of seeds"
    return f"{claim['statistic']}: {rule}"


def measured_words(claim: dict[str, Any], prefix: str = "") -> str:
    """A statistic and its interval, with as many digits as are worth reading. A share has its unit: `64 % of seeds`."""
    value, low, high = (claim[f"{prefix}{name}"] for name in ("value", "low", "high"))
    if value is None:
        return ""
    if _is_share(claim):
        interval = "" if low is None else f" ({100 * low:.0f} to {100 * high:.0f} %)"
        return f"{100 * value:.0f} % of seeds{interval}"
    digits = 2 if max(abs(value), abs(low or 0)) >= 1 or "rho" in claim["statistic"] else 3
    return number(value, digits) + ("" if low is None else f" ({span(low, high, digits)})")


def _is_share(claim: dict[str, Any]) -> bool:
    """Whether the statistic is a share of the seeds, which could be read as an IA if it had no unit."""
    return str(claim["statistic"]).startswith("share of seeds")


def _best_epoch(claim: dict[str, Any]) -> str:
    """What the probe's best epoch says, where that is another verdict."""
    if claim["best_epoch"] in (None, claim["verdict"]):
        return ""
    return f"by the best epoch {claim['best_epoch']}: {measured_words(claim, 'best_epoch_')}"
