"""The code and its documents use the standard terms of the field; the words of earlier versions stay out."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
FILES = ("README.md", "Makefile", "pyproject.toml", "outputs/README.md")
FOLDERS = ("dc_hpc", "tests", "slurm", "jobs", ".ci")
ENDINGS = {".py", ".html", ".css", ".js", ".yaml", ".sbatch", ""}  # the mutants are diffs of earlier code

# The term of today -> the old words, as a pattern over whole words and parts of identifiers. Old words that are also
# ordinary English, such as "room" or "stand", are left to the reader.
OLD_WORDS = {
    "command": r"doors?",
    "worker process": r"desks?|sen[dt] home",
    "pool": r"occupy",
    "backend": r"engines?",
    "spec, metadata or environment": r"facts?",
    "donor run, copied from, reuse group": r"twins?|given by|family",
    "kmeans init": r"seeding",
    "WinogradConv, Im2colConv, DirectConv5": r"by points|by windows|five wide",
    "forward pass, backward pass": r"ways? (?:forward|back|forth)",
    "warnings": r"complaints?",
    "image views": r"seen images",
    "quarantine": r"put aside",
    "mutants": r"teeth|planted",
    "cost estimate, sbatch submission, run status, checksum": r"bills?|billed|handovers?|overviews?|seal(?:s|ed|ing)?",
    "architecture": r"houses?",
}
PATTERN = re.compile("|".join(f"(?P<w{i}>{words})" for i, words in enumerate(OLD_WORDS.values())))

# Where an old word stays: what is on disk, options that scripts may still use, and libraries have their own names.
ALLOWED = {
    ("dc_hpc/experiment/execution.py", "engine"): "the key of attempts and submissions",
    ("dc_hpc/experiment/resume.py", "complaints"): "the key of attempts",
    ("dc_hpc/experiment/run.py", "engine"): "the option that was renamed",
    ("dc_hpc/report/figures/style.py", "family"): "matplotlib's",
    ("dc_hpc/report/findings.py", "engine"): "the column of runs.csv",
    ("dc_hpc/report/frames/runs.py", "engine"): "the column of runs.csv",
    ("dc_hpc/report/frames/schema.py", "engine"): "the column of runs.csv",
    ("dc_hpc/report/run_tables.py", "engine"): "the column of runs.csv",
    ("dc_hpc/status/disk.py", "put aside"): "the option that was renamed",
    ("dc_hpc/status/view.py", "complaints"): "the key of `status --json`",
    ("dc_hpc/storage/run_directory.py", "given by"): "the key of checkpoints",
    ("dc_hpc/submit.py", "engine"): "the option that was renamed",
    ("docs/REFERENCE.md", "engine"): "the column of runs.csv",
    ("tests/cli/test_help.py", "engine"): "the option that was renamed",
    ("tests/cli/test_help.py", "put aside"): "the option that was renamed",
    ("tests/cli/test_submit.py", "engine"): "the option that was renamed",
    ("tests/cli/test_submit_to_slurm.py", "engine"): "the option that was renamed, and the key",
    ("tests/cli/test_status.py", "put aside"): "the option that was renamed",
    ("tests/crash/test_load.py", "complaints"): "the key of `status --json`",
    ("tests/experiment/test_run.py", "complaints"): "the key of attempts",
    ("tests/experiment/test_run.py", "engine"): "the key of attempts",
    ("tests/experiment/test_run.py", "put aside"): "a mutant names this test",
    ("tests/report/test_frames.py", "engine"): "the column of runs.csv",
    ("tests/report/test_paper.py", "engine"): "the column of runs.csv",
    ("tests/scheduler/test_queued_tasks.py", "engine"): "a pickle of 0.1.0",
    ("tests/support/recorded_runs.py", "engine"): "the key and the column",
}


def texts() -> Iterator[Path]:
    """The files that people read, without this one, the changelog and the committed results."""
    yield from (REPOSITORY / name for name in FILES)
    yield from sorted((REPOSITORY / "docs").glob("*.md"))
    for folder in FOLDERS:
        for path in sorted((REPOSITORY / folder).rglob("*")):
            if path.is_file() and path.suffix in ENDINGS and path != Path(__file__):
                yield path


def old_words(text: str) -> Iterator[tuple[int, str, str]]:
    """(line, old word, its replacement) of each old word. `--put-aside` and `PutAside` count as `put aside`."""
    for number, line in enumerate(text.splitlines(), 1):
        words = re.sub(r"(?<=[a-z])(?=[A-Z])|[_-]+", " ", line).lower()
        for found in re.finditer(rf"\b(?:{PATTERN.pattern})\b", words):
            better = list(OLD_WORDS)[int(str(found.lastgroup)[1:])]
            yield number, found[0], better


def test_no_old_word_is_left():
    found: list[str] = []
    used: set[tuple[str, str]] = set()
    for path in texts():
        name = str(path.relative_to(REPOSITORY))
        for line, word, better in old_words(path.read_text()):
            used.add((name, word))
            if (name, word) not in ALLOWED:
                found.append(f"{name}:{line}: {word!r}; use: {better}")
    assert not found, "\n".join(found)
    assert set(ALLOWED) - used == set(), "the table allows words that are not there"


@pytest.mark.parametrize("line", ["a Desk", "run_door(x)", "SeenImages", "--put-aside", "the way back", "_sealed = 1"])
def test_an_old_word_is_found_in_any_spelling(line):
    assert len(list(old_words(line))) == 1
