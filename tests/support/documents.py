"""The blocks of the documents, and a copy of the repository in which they are executed."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def blocks(page: str, language: str) -> list[str]:
    """The blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", (REPOSITORY / page).read_text(), re.M | re.S)


def script_of(page: str) -> str:
    """All blocks of a page as one script for bash. A YAML block goes into the file that the text before it names."""
    text, script = (REPOSITORY / page).read_text(), ""
    for found in re.finditer(r"^```(bash|python|yaml)\n(.*?)^```", text, re.M | re.S):
        language, block = found.groups()
        if language == "yaml":
            file = re.findall(r"`([\w/]+\.yaml)`", text[: found.start()])[-1]
            block = f"cat > {file} <<'BLOCK'\n{block}BLOCK\n"
        elif language == "python":
            block = f"python - <<'BLOCK'\n{block}BLOCK\n"
        script += block
    return script


def working_copy(folder: Path) -> Path:
    """A copy of what git knows of the repository, whose `make env` finds the environment of this Python installed."""
    tree = folder / "dc_hpc"
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=REPOSITORY, check=True, capture_output=True, text=True
    )
    for name in listed.stdout.splitlines():
        if (REPOSITORY / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, tree / name)
    use_this_environment(tree)
    return tree


def use_this_environment(tree: Path) -> None:
    """Let `make env` in a checkout find the environment of this Python, and do nothing."""
    (tree / ".venv").symlink_to(sys.prefix)
    assert (tree / ".venv" / ".installed").exists(), "the environment is the one of `make env`"
    os.utime(tree / "pyproject.toml", (0, 0))
