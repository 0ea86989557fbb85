"""The modules of the package as files: for tests that read the source."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "dc_hpc"


def name_of(path: Path) -> str:
    """`dc_hpc.config.grid` of the file config/grid.py."""
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
