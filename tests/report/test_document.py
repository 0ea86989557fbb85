"""A person's Markdown file keeps all that is theirs: line ends, mode, links and every byte outside the tables."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest
from support.hostile_text import promptly

from dc_hpc.errors import InputError
from dc_hpc.report.document import check, renew
from dc_hpc.storage import atomic_files

TABLE = "| k |\n|---|\n| ü |\n"
THEIRS = "# Notes ü\n\n<!-- claims -->\n{}<!-- end -->\n\nMine.  \n\ttail without an end"


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables/claims.md").write_text(TABLE)
    return tmp_path / "tables"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_line_ends_and_every_other_byte_stay(tmp_path: Path, tables: Path, end: str, start: str) -> None:
    document = tmp_path / "notes.md"
    document.write_bytes((start + THEIRS.format("old\n")).replace("\n", end).encode())
    renew(document, tables)
    assert document.read_bytes() == (start + THEIRS.format(TABLE)).replace("\n", end).encode()


def test_each_table_has_the_line_ends_of_its_place(tmp_path: Path, tables: Path) -> None:
    document = tmp_path / "notes.md"
    document.write_bytes(b"a\r\nb\n<!-- claims -->\r\n<!-- end -->\n<!-- claims -->\n<!-- end -->\r\nc\rd")
    renew(document, tables)
    lf = TABLE.encode()
    crlf = lf.replace(b"\n", b"\r\n")
    assert document.read_bytes() == (
        b"a\r\nb\n<!-- claims -->\r\n" + crlf + b"<!-- end -->\n<!-- claims -->\n" + lf + b"<!-- end -->\r\nc\rd"
    )


def test_a_table_without_its_end_does_not_swallow_what_follows(tmp_path: Path, tables: Path) -> None:
    document = tmp_path / "notes.md"
    text = "<!-- claims -->\nMine.\n\n<!-- fig_3a -->\nold\n<!-- end -->\n"
    document.write_text(text)
    with pytest.raises(InputError, match="<!-- claims --> needs an <!-- end --> before the next table"):
        renew(document, tables, panels=["fig_3a"])
    assert document.read_text() == text


@pytest.mark.parametrize("mode", [0o644, 0o664, 0o600, 0o755])
def test_the_mode_stays(tmp_path: Path, tables: Path, mode: int) -> None:
    document = tmp_path / "notes.md"
    document.write_text(THEIRS.format(""))
    document.chmod(mode)
    renew(document, tables)
    assert TABLE in document.read_text() and stat.S_IMODE(document.stat().st_mode) == mode


def test_a_link_is_followed_and_stays(tmp_path: Path, tables: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/notes.md").write_text(THEIRS.format("old\n"))
    (tmp_path / "middle.md").symlink_to("real/notes.md")
    (tmp_path / "link.md").symlink_to(tmp_path / "middle.md")
    renew(tmp_path / "link.md", tables)
    assert (tmp_path / "link.md").is_symlink() and (tmp_path / "middle.md").is_symlink()
    assert (tmp_path / "real/notes.md").read_text() == THEIRS.format(TABLE)
    assert [path.name for path in (tmp_path / "real").iterdir()] == ["notes.md"]


def test_a_document_that_is_up_to_date_is_not_written(tmp_path: Path, tables: Path) -> None:
    document = tmp_path / "notes.md"
    document.write_text(THEIRS.format(TABLE))
    before = document.stat()
    renew(document, tables)
    assert (document.stat().st_ino, document.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: os.mkfifo(path), "cannot be read .not a regular file.; give a Markdown file"),
        (lambda path: path.mkdir(), "cannot be read"),
        (lambda path: path.symlink_to("nowhere.md"), "cannot be read .No such file"),
        (lambda path: path.symlink_to(path.name), "cannot be read"),
        (lambda path: path.write_bytes(b"<!-- claims -->\n\xff<!-- end -->\n"), "cannot be read"),
    ],
)
def test_what_is_no_document_is_one_line_at_once(tmp_path: Path, make, words: str) -> None:
    make(tmp_path / "notes.md")
    with promptly(), pytest.raises(InputError, match=words):
        check(tmp_path / "notes.md")


def test_a_second_hard_link_is_refused(tmp_path: Path, tables: Path) -> None:
    (tmp_path / "notes.md").write_text(THEIRS.format("old\n"))
    os.link(tmp_path / "notes.md", tmp_path / "other.md")
    with pytest.raises(InputError, match="notes.md has a second hard link, which would keep the old text; give a copy"):
        renew(tmp_path / "notes.md", tables)
    assert (tmp_path / "other.md").read_text() == THEIRS.format("old\n")


def test_a_document_that_is_read_only_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notes.md").write_text(THEIRS.format("old\n"))
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # root may write everything
    with pytest.raises(InputError, match="notes.md is not writable by you; give a file of your own"):
        check(tmp_path / "notes.md")


def test_a_document_that_cannot_be_written_is_named(
    tmp_path: Path, tables: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "notes.md").write_text(THEIRS.format("old\n"))
    monkeypatch.setattr(atomic_files, "replace_content", full)
    with pytest.raises(InputError, match="--document .*notes.md cannot be written .No space left on device."):
        renew(tmp_path / "notes.md", tables)
