"""Names of grids, sites and folders on their way to sbatch: no character of one becomes a command or an option."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from support.stub_slurm import GRID, run_with_environment, stub_slurm

from dc_hpc.config.grid import Resources
from dc_hpc.errors import InputError
from dc_hpc.scheduler.launch import sbatch_text
from dc_hpc.scheduler.site import Site, check_name, read_site

HOSTILE_NAMES = [
    "a b",
    "$(touch canary)",
    "`touch canary`",
    "a;touch canary",
    "a\ntouch canary",
    "a\n",
    "a\n#SBATCH --wrap=x",
    "'; touch canary; '",
    '"; touch canary; "',
    "-rf",
    "..",
    ".x",
    "a|b",
    "a&b",
    "%j",
    "${IFS}",
    "\u00e9",
    "a\rb",
    "\udcff",
]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_hostile_grid_name_is_refused_for_slurm(tmp_path, name):
    with pytest.raises(InputError):
        check_name(name)
    with pytest.raises(InputError):
        sbatch_text(Site(), Resources(), name=name, outputs=tmp_path, tasks=1)


@pytest.mark.parametrize("field", ["partition", "account", "qos", "gpu_type", "wckey"])
def test_a_hostile_site_value_is_refused(tmp_path, field):
    for value in [*HOSTILE_NAMES[:-1], "a\nb"]:
        if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._:/=,@+-]*", value):
            continue
        path = tmp_path / "site.yaml"
        quoted = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
        texts = [f'{field}: "{quoted}"\n', f'extra: {{"{quoted}": x}}\n']
        if value not in ("a|b", "a&b"):  # a constraint of SLURM; in the script it is in quotes
            texts.append(f'extra: {{constraint: "{quoted}"}}\n')
        for text in texts:
            path.write_text(text)
            with pytest.raises(InputError, match="site.yaml:1: "):
                read_site(path)


@pytest.mark.parametrize(
    "place", ["a b", "a=b,c@d+e", "$(touch canary)", "a;touch canary", "a\ntouch canary", "a'b", "%A"]
)
def test_the_script_that_reaches_sbatch_runs_nothing_of_a_path(tmp_path, digits_root, place):
    """Outputs, grid and data are in a folder of that name; then submit's script runs with a stub of srun."""
    home = tmp_path / place
    (home / "data").mkdir(parents=True)
    (home / "data" / "digits.npz").write_bytes((digits_root / "digits.npz").read_bytes())
    (home / "grid.yaml").write_text(GRID)
    (home / "site.yaml").write_text("partition: low\nsetup: [module_of_mine=1]\nextra: {constraint: a100}\n")
    tools = stub_slurm(tmp_path / "tools")
    out = run_with_environment(
        "submit",
        "--grid",
        home / "grid.yaml",
        "--data",
        home / "data",
        "--outputs",
        home / "out",
        "--cluster",
        "slurm",
        "--site",
        home / "site.yaml",
        "--yes",
        "--no-aggregate",
        "--snapshot",
        cwd=home,
        **tools,
    )
    script = Path(tools["SEEN"])
    if out.returncode:
        assert out.returncode == 2 and "cannot be named to SLURM" in out.stderr and not script.exists(), out.stderr
        assert place not in ("a b", "a=b,c@d+e")
        return
    assert place in ("a b", "a=b,c@d+e")
    assert subprocess.run(["bash", "-n", script], capture_output=True).returncode == 0
    flags = [shlex.split(line)[1:] for line in script.read_text().splitlines() if line.startswith("#SBATCH")]
    assert all(len(words) == 1 and words[0].startswith("--") for words in flags)
    names = [words[0].partition("=")[0] for words in flags]
    assert len(set(names)) == len(names) and {"--job-name", "--output", "--partition", "--constraint"} <= set(names)
    ran = subprocess.run(["bash", script], cwd=home, capture_output=True, text=True, env={**os.environ, **tools})
    assert ran.returncode == 0 and not list(tmp_path.rglob("*canary*")), ran.stderr


def test_a_local_grid_may_have_any_name_and_leaves_its_folder_not(tmp_path, digits_root):
    names = ["...yaml", "$(touch canary).yaml", "a\ntouch canary.yaml", "\udcff.yaml"]
    for seed, name in enumerate(names):
        (tmp_path / name).write_text(GRID.replace("cycles: 1", "cycles: 0").replace("[1]", f"[{seed}]"))
    arguments = [word for name in names for word in ("--grid", name)]
    out = run_with_environment("submit", *arguments, "--data", digits_root, "--slots", 1, cwd=tmp_path)
    assert out.returncode == 0, out.stderr
    assert sorted(path.name for path in (tmp_path / "outputs").iterdir()) == ["runs", "slurm"]
    assert not list(tmp_path.rglob("canary"))
