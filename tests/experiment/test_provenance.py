"""The code that ran, and the copy of it that a submission may run from."""

import subprocess
import sys

from support.package import PACKAGE

from dc_hpc.experiment import provenance


def test_a_snapshot_can_do_what_the_package_can(tmp_path):
    """The aggregator of a submission runs from the copy: it needs the templates of the page, too."""
    folder = provenance.snapshot(tmp_path)
    copied = {path.relative_to(folder / "dc_hpc") for path in (folder / "dc_hpc").rglob("*") if path.is_file()}
    expected = {path.relative_to(PACKAGE) for path in PACKAGE.rglob("*") if path.suffix not in ("", ".pyc", ".typed")}
    assert copied == {path for path in expected if "__pycache__" not in path.parts}
    code = "import dc_hpc.report.page as page; print(page.__file__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert str(folder) in done.stdout
    assert provenance.snapshot(tmp_path) == folder
