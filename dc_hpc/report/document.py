"""Renews the report's tables and numbers in a person's Markdown text."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Collection
from pathlib import Path

from dc_hpc.errors import InputError
from dc_hpc.report.tables import places
from dc_hpc.storage import atomic_files

NOT_RUN = "Not run yet.\n"
_MARK = r"<!-- (?!end )([a-z0-9_]+) -->(\r?\n)"
_PLACE = re.compile(rf"({_MARK})(.*?)(<!-- end -->)", re.DOTALL)


def check(document: Path) -> None:
    """Raise InputError unless the document is a text with places for tables or numbers."""
    _places(document)


def renew(document: Path, tables: Path, *, panels: Collection[str] = ()) -> None:
    """Put each table of the folder `tables` that the document names between its marks; the rest stays to the byte.

        <!-- fig_b1 -->
        what tables/fig_b1.md holds
        <!-- end -->

    A number in a sentence is filled, too: `<!-- =claims.fig_3a.ia_range.value -->.640<!-- end -->` (`tables.places`).
    A table has the line ends of the line before it. A link to a document is followed, and its mode stays. panels: the
    names of tables that are there as soon as a run of theirs is done; until then their place says so.

    InputError: no such document, no place in it, a name that is no table, a mark without its end, a file that one
    cannot write.
    """
    text, names = _places(document)
    made = {name for name in names if (tables / f"{name}.md").is_file()}
    missing = [name for name in names if name not in made and name not in panels]
    if missing:
        raise InputError(f"--document {document} names {missing[0]}, and {tables} has no table of that name")

    def place(found: re.Match[str]) -> str:
        table = (tables / f"{found[2]}.md").read_text("utf-8") if found[2] in made else NOT_RUN
        return found[1] + table.replace("\n", found[3]) + found[5]

    renewed = places.fill(_PLACE.sub(place, text), tables, document=document)
    if renewed == text:
        return
    try:
        atomic_files.replace_content(document, renewed.encode("utf-8"))
    except OSError as error:
        raise InputError(f"--document {document} cannot be written ({error.strerror}); give a copy") from None


def _places(document: Path) -> tuple[str, list[str]]:
    """The text, and the tables that it names."""
    try:
        if document.exists() and not document.is_file():
            raise OSError(errno.EINVAL, "not a regular file")  # reading a pipe would wait for ever
        text = document.read_bytes().decode("utf-8")  # with its line ends
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"--document {document} cannot be read ({why}); give a Markdown file") from None
    if not os.access(document, os.W_OK):
        raise InputError(f"--document {document} is not writable by you; give a file of your own")
    if document.stat().st_nlink > 1:
        raise InputError(f"--document {document} has a second hard link, which would keep the old text; give a copy")
    found = _PLACE.findall(text)
    names = [name for _, name, *_ in found]
    for _, name, _, between, _ in found:
        if re.search(_MARK, between):  # all up to the end of the next table would be lost
            raise InputError(f"--document {document}: <!-- {name} --> needs an <!-- end --> before the next table")
    numbers = len(places.PLACE.findall(text))
    whole = numbers == text.count(places.START) and len(names) + numbers == text.count("<!-- end -->")
    if not whole or not names and not numbers:
        raise InputError(
            f"--document {document}: each table needs the lines <!-- NAME --> and <!-- end -->, "
            "each number <!-- =TABLE.COLUMN --> and <!-- end -->"
        )
    return text, names
