"""Renews the report's tables and numbers in a person's Markdown text."""

from __future__ import annotations

import re
from pathlib import Path

from dc_hpc.errors import InputError
from dc_hpc.report.tables import places
from dc_hpc.storage import atomic_files

_PLACE = re.compile(r"(<!-- ([a-z0-9_]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def check(document: Path) -> None:
    """Raise InputError unless the document is a text with places for tables or numbers."""
    _places(document)


def renew(document: Path, tables: Path) -> None:
    """Put each table of the folder `tables` that the document names between its marks; the rest stays as it is.

        <!-- fig_b1 -->
        what tables/fig_b1.md holds
        <!-- end -->

    A number in a sentence is filled, too: `<!-- =claims.fig_3a.ia_range.value -->.640<!-- end -->` (`tables.places`).
    InputError: no such document, no place in it, a name that is no table, a mark without its end.
    """
    text, names = _places(document)
    missing = [name for name in names if not (tables / f"{name}.md").is_file()]
    if missing:
        raise InputError(f"--document {document} names {missing[0]}, and {tables} has no table of that name")
    renewed = _PLACE.sub(lambda found: found[1] + (tables / f"{found[2]}.md").read_text("utf-8") + found[4], text)
    renewed = places.fill(renewed, tables, document=document)
    atomic_files.replace_bytes(document, renewed.encode("utf-8"))


def _places(document: Path) -> tuple[str, list[str]]:
    """The text, and the tables that it names."""
    try:
        text = document.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"--document {document} cannot be read ({why}); give a Markdown file") from None
    names = [name for _, name, _, _ in _PLACE.findall(text)]
    numbers = len(places.PLACE.findall(text))
    whole = numbers == text.count(places.START) and len(names) + numbers == text.count("<!-- end -->")
    if not whole or not names and not numbers:
        raise InputError(
            f"--document {document}: each table needs the lines <!-- NAME --> and <!-- end -->, "
            "each number <!-- =TABLE.COLUMN --> and <!-- end -->"
        )
    return text, names
