"""What is not trusted does nothing: files of others, names, pickles, links, data; docs/SECURITY.md names each test."""

from __future__ import annotations

import ast
import errno
import io
import os
import pickle
import re
import shlex
import stat
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.hostile_text import promptly
from support.small_runs import new_run

from dc_hpc.config.grid import Resources
from dc_hpc.data.custom import data_digest, read_custom_data
from dc_hpc.errors import InputError
from dc_hpc.experiment.execution import Execution
from dc_hpc.report.frames.runs import load_runs, records
from dc_hpc.scheduler.launch import sbatch_text
from dc_hpc.scheduler.site import Site, check_name, read_site
from dc_hpc.storage import atomic_files, feature_dumps, metrics_csv, run_directory
from dc_hpc.storage.atomic_files import DamagedFile

REPOSITORY = Path(__file__).parents[1]
GRID = "base: fmnist\nprotocol: code\nfixed: {dataset: digits, k: 6, cycles: 1, probe_epochs: 1}\nsweep: {seed: [1]}\n"
SECRETS = {
    name: f"canary-{number}-do-not-write"
    for number, name in enumerate(
        ("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "GITHUB_TOKEN", "WANDB_API_KEY", "SSH_AUTH_SOCK", "PASSWORD")
    )
}


class Canary:
    """Whoever unpickles it makes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {shlex.quote(str(self.path))}",)


def run_command(name, *arguments, cwd, umask=0o022, **environment):
    command = [sys.executable, "-m", f"dc_hpc.{name}", *map(str, arguments)]
    done = subprocess.run(
        command,
        cwd=cwd,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=300,
        umask=umask,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def stub_slurm(folder: Path) -> dict[str, str]:
    """sbatch that keeps the script it is given, srun that runs nothing; the environment to find them."""
    folder.mkdir()
    sbatch = '#!/bin/sh\nfor last; do :; done\ncp "$last" "$SEEN"\necho Submitted batch job 77\n'
    for name, text in {
        "sbatch": sbatch,
        "srun": "#!/bin/sh\n",
        "squeue": "#!/bin/sh\n",
        "sacct": "#!/bin/sh\n",
        "scontrol": "#!/bin/sh\n",
    }.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o700)
    return {"PATH": f"{folder}:{os.environ['PATH']}", "SEEN": str(folder / "script")}


# ---- a whole day under umask 000, with secrets in the environment and pickles planted


@pytest.fixture(scope="module")
def day(tmp_path_factory, digits_root):
    """A folder after a run, a second submit, a submit to SLURM, status, logs and aggregate; the canary's path."""
    place = tmp_path_factory.mktemp("day")
    canary, data = place / "unpickled", ["--data", digits_root]
    tools = stub_slurm(place / "tools")
    (place / "grid.yaml").write_text(GRID)
    (place / "more.yaml").write_text(GRID.replace("[1]", "[2]"))
    (place / "site.yaml").write_text("partition: low\n")
    said = [run_command("submit", "--grid", "grid.yaml", *data, cwd=place, umask=0, **SECRETS)]
    assert said[0].returncode == 0, said[0].stdout + said[0].stderr
    plant(place / "outputs", canary)
    said += [
        run_command(
            "submit",
            "--grid",
            "more.yaml",
            *data,
            "--cluster",
            "slurm",
            "--site",
            "site.yaml",
            "--yes",
            "--snapshot",
            cwd=place,
            umask=0,
            **SECRETS,
            **tools,
        ),
        run_command("status", cwd=place, umask=0, **SECRETS, **tools),
        run_command("status", "--json", cwd=place, umask=0, **SECRETS, **tools),
        run_command("submit", "--grid", "grid.yaml", *data, cwd=place, umask=0, **SECRETS, **tools),
        run_command("aggregate", *data, "--jobs", place, cwd=place, umask=0, **SECRETS),
    ]
    (run,) = [one.name for one in run_directory.run_directories(place / "outputs") if "seed1" in one.name]
    said.append(run_command("status", "logs", run, cwd=place, umask=0, **SECRETS))
    assert [one.returncode for one in said] == [0] * len(said), [one.stderr for one in said]
    return place, canary, said


def plant(outputs: Path, canary: Path) -> None:
    """Pickles under every name that submitit, torch and numpy give theirs."""
    content = pickle.dumps(Canary(canary))
    names = ("1_result.pkl", "77_0_result.pkl", "77_result.pkl", "result.pkl", "model.pt", "checkpoint.pth", "c0.pkl")
    folders = [path for path in (outputs, *outputs.rglob("*")) if path.is_dir()]
    for path in [folder / name for folder in folders for name in names]:
        path.write_bytes(content)
        path.chmod(0o600)
    for old in outputs.glob("slurm/*/*_result.pkl"):
        old.write_bytes(content)  # of the job that has just ended


def test_no_door_reads_a_pickle(day):
    place, canary, _ = day
    assert not canary.exists()
    pickle.loads(pickle.dumps(Canary(place / "control")))
    assert (place / "control").exists(), "the canary sings when it is read"


def test_no_secret_of_the_environment_is_written_or_printed(day):
    place, _, said = day
    assert len([path for path in (place / "outputs").rglob("*") if path.is_file()]) > 20
    written = [path for path in place.rglob("*") if path.is_file()]
    for value in SECRETS.values():
        assert not [path for path in written if value.encode() in path.read_bytes()]
        assert not [one for one in said if value in one.stdout + one.stderr]


def test_nobody_else_reads_or_writes_below_outputs_whatever_the_umask(day):
    place, _, _ = day
    wrong = {}
    for path in [place / "outputs", *(place / "outputs").rglob("*")]:
        if path.is_symlink():  # submitit's name for a script before it had a number; a link has no mode
            assert path.resolve().parent == path.parent
            continue
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077 or (path.is_dir() and mode != 0o700):
            wrong[str(path.relative_to(place))] = oct(mode)
    assert not wrong


def test_the_pickle_of_a_task_is_for_its_owner_only(day):
    """The only pickle that is ever loaded: submitit's own, by the task, on the node."""
    place, _, _ = day
    pickles = [*(place / "outputs" / "slurm" / "more").glob("*_submitted.pkl")]
    assert pickles and all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in pickles)
    assert stat.S_IMODE(pickles[0].parent.stat().st_mode) == 0o700


def test_a_folder_that_others_may_write_to_gets_no_pickle(tmp_path, digits_root):
    (tmp_path / "grid.yaml").write_text(GRID)
    folder = tmp_path / "outputs" / "slurm" / "grid"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    out = run_command("submit", "--grid", "grid.yaml", "--data", digits_root, cwd=tmp_path)
    assert out.returncode == 2 and "chmod go-w" in out.stderr and not list(folder.iterdir())


def test_no_line_of_the_package_unpickles():
    """pickle, torch.load, joblib, allow_pickle, eval, exec, shell=True: nowhere but where a reason stands beside."""
    # sbatch.py writes submitit's own; the benchmark times a file that it has itself just written
    allowed = {("sbatch.py", "cloudpickle"), ("file_stages.py", "load")}
    found = set()
    for path in (REPOSITORY / "dc_hpc").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Import(names=names):
                    found |= {
                        (path.name, one.name)
                        for one in names
                        if one.name in ("pickle", "cloudpickle", "joblib", "dill")
                    }
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="torch" | "pickle" | "cloudpickle"), attr="load" | "loads")
                ):
                    found.add((path.name, "load"))
                case ast.Call(func=ast.Name(id="eval" | "exec" | "__import__" as name)):
                    found.add((path.name, name))
                case ast.keyword(arg="shell" | "allow_pickle" as name, value=ast.Constant(value=True)):
                    found.add((path.name, name))
    assert found == allowed


# ---- links


@pytest.mark.parametrize(
    "where, command",
    [
        ("runs", "submit"),
        ("slurm", "submit"),
        ("slurm/grid", "submit"),
        ("tables", "aggregate"),
        ("figures", "aggregate"),
        ("slurm/submissions", "slurm"),
    ],
)
def test_nothing_is_written_through_a_link(tmp_path, digits_root, where, command):
    outside, outputs = tmp_path / "outside", tmp_path / "outputs"
    outside.mkdir()
    (tmp_path / "grid.yaml").write_text(GRID)
    (tmp_path / "site.yaml").write_text("partition: low\n")
    new_run(outputs, digits_root)
    if where == "runs":
        (outputs / "runs").rename(tmp_path / "real")
    link = outputs / where
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(outside)
    arguments = ["--jobs", tmp_path] if command == "aggregate" else ["--grid", "grid.yaml"]
    more = {}
    if command == "slurm":
        more, command = stub_slurm(tmp_path / "tools"), "submit"
        arguments += ["--cluster", "slurm", "--site", "site.yaml", "--yes"]
    out = run_command(command, *arguments, "--data", digits_root, cwd=tmp_path, **more)
    assert out.returncode == 2 and "symbolic link" in out.stderr or "no run in" in out.stderr, out.stdout + out.stderr
    assert not list(outside.iterdir())


def test_a_linked_file_is_replaced_and_what_it_points_to_left(tmp_path, digits_root):
    outputs, outside = tmp_path / "outputs", tmp_path / "outside"
    new_run(outputs, digits_root)
    outside.write_text("mine")
    (outputs / "tables").mkdir()
    for name in ("report.html", "tables/runs.csv"):
        (outputs / name).symlink_to(outside)
    assert run_command("aggregate", "--data", digits_root, "--jobs", tmp_path, cwd=tmp_path).returncode == 0
    assert outside.read_text() == "mine" and not (outputs / "report.html").is_symlink()


@pytest.mark.parametrize("where", ["checkpoints", "attempts", "features", "quarantine"])
def test_a_linked_folder_of_a_run_is_neither_written_nor_tidied(tmp_path, digits_root, where):
    from dc_hpc.experiment.run import run

    outputs, outside = tmp_path / "outputs", tmp_path / "outside"
    outside.mkdir()
    (outside / "c000001-trained-0123456789abcdef.safetensors").write_text("mine")
    (outside / ".x.99999999.0123456789abcdef.tmp").write_text("mine")
    directory = new_run(outputs, digits_root, cycles=1)
    (directory / where).symlink_to(outside)
    before = sorted(outside.iterdir())
    try:
        run(directory, Execution(str(digits_root)))
    except InputError as error:
        assert "symbolic link" in str(error)
    run_directory.tidy(directory)
    assert sorted(outside.iterdir()) == before and all(path.read_text() == "mine" for path in before)


def test_a_linked_run_directory_is_refused(tmp_path, digits_root):
    directory = new_run(tmp_path / "outputs", digits_root)
    directory.rename(tmp_path / "outside")
    directory.symlink_to(tmp_path / "outside")
    before = sorted((tmp_path / "outside").rglob("*"))
    with pytest.raises(InputError, match="symbolic link"):
        new_run(tmp_path / "outputs", digits_root)
    assert sorted((tmp_path / "outside").rglob("*")) == before


# ---- names on their way to sbatch

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
        for text in (f'{field}: "{quoted}"\n', f'extra: {{constraint: "{quoted}"}}\n', f'extra: {{"{quoted}": x}}\n'):
            path.write_text(text)
            with pytest.raises(InputError, match="site.yaml:1: "):
                read_site(path)


@pytest.mark.parametrize(
    "place", ["a b", "a=b,c@d+e", "$(touch canary)", "a;touch canary", "a\ntouch canary", "a'b", "%A"]
)
def test_the_script_that_reaches_sbatch_runs_nothing_of_a_path(tmp_path, digits_root, place):
    """Through the door: outputs, grid and data below a folder of that name; then the script runs with no srun."""
    home = tmp_path / place
    (home / "data").mkdir(parents=True)
    (home / "data" / "digits.npz").write_bytes((digits_root / "digits.npz").read_bytes())
    (home / "grid.yaml").write_text(GRID)
    (home / "site.yaml").write_text("partition: low\nsetup: [module_of_mine=1]\nextra: {constraint: a100}\n")
    tools = stub_slurm(tmp_path / "tools")
    out = run_command(
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
    out = run_command("submit", *arguments, "--data", digits_root, "--slots", 1, cwd=tmp_path)
    assert out.returncode == 0, out.stderr
    assert sorted(path.name for path in (tmp_path / "outputs").iterdir()) == ["runs", "slurm"]
    assert not list(tmp_path.rglob("canary"))


# ---- a person's data, made by somebody else


def arrays_of(**changes) -> dict[str, np.ndarray]:
    images = np.zeros((4, 8, 8), np.uint8)
    return {
        "train_images": images,
        "train_labels": np.arange(4),
        "test_images": images,
        "test_labels": np.arange(4),
    } | changes


@pytest.mark.parametrize("name", ["train_images", "test_labels"])
def test_a_pickle_in_an_npz_is_refused_unread(tmp_path, name):
    hostile = np.array([Canary(tmp_path / "canary")] * 4, dtype=object)
    np.savez(tmp_path / "mine.npz", **arrays_of(**{name: hostile}))
    with pytest.raises(InputError, match=r"mine\.npz"):
        read_custom_data(tmp_path / "mine.npz")
    assert not (tmp_path / "canary").exists()


def member(shape: str) -> bytes:
    """The head of an npy file that claims a shape and brings nothing."""
    head = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_an_npz_that_claims_four_tebibytes_is_refused(tmp_path):
    content = member("(4398046511104, 8, 8)")
    path = zipped(tmp_path / "mine.npz", {f"{name}.npy": content for name in arrays_of()})
    with promptly(), pytest.raises(InputError, match=r"mine\.npz"):
        read_custom_data(path)


def test_an_npz_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("dc_hpc.data.custom.ZIP_LIMIT", 1 << 20)
    np.savez_compressed(tmp_path / "mine.npz", **arrays_of(train_images=np.zeros((200_000, 8, 8), np.uint8)))
    monkeypatch.setattr(np, "load", None)
    with pytest.raises(InputError, match="more than 20 times its size"):
        read_custom_data(tmp_path / "mine.npz")


def png(size: tuple[int, int] = (8, 8)) -> bytes:
    stream = io.BytesIO()
    Image.new("L", size).save(stream, "PNG")
    return stream.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few hundred bytes with a head that claims these sides."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("sides", [(10_000, 10_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
@pytest.mark.parametrize("form", ["folder", "zip"])
def test_a_png_bomb_is_refused_before_it_is_decoded(tmp_path, sides, form):
    members = {"train/a/1.png": png(), "train/a/2.png": bomb(*sides), "test/a/1.png": png()}
    path = tmp_path / "mine.zip"
    zipped(path, members)
    if form == "folder":
        path = tmp_path / "mine"
        with zipfile.ZipFile(tmp_path / "mine.zip") as archive:
            archive.extractall(path)
    with promptly(), pytest.raises(InputError, match="2.png cannot be decoded"):
        read_custom_data(path)


@pytest.mark.parametrize(
    "name", ["../train/a/x.png", "/train/a/x.png", "train/../../x.png", "C:/x.png", "train\\..\\x.png"]
)
def test_a_zip_that_points_outside_is_refused_and_nothing_unpacked(tmp_path, name):
    (tmp_path / "in").mkdir()
    path = zipped(tmp_path / "in" / "mine.zip", {"train/a/1.png": png(), "test/a/1.png": png(), name: png()})
    with pytest.raises(InputError, match="points outside"):
        read_custom_data(path)
    assert [one.name for one in tmp_path.rglob("*") if one.is_file()] == ["mine.zip"]


def test_a_zip_with_a_link_is_refused(tmp_path):
    link = zipfile.ZipInfo("train/a/2.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = tmp_path / "mine.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(InputError, match="symbolic link"):
        read_custom_data(path)


@pytest.mark.parametrize("kind", ["pipe", "device", "dangling"])
@pytest.mark.parametrize("read", [read_custom_data, data_digest])
def test_a_folder_with_a_pipe_or_a_device_is_refused_and_not_waited_for(tmp_path, kind, read):
    for name in ("train/a/1.png", "test/a/1.png"):
        (tmp_path / "mine" / name).parent.mkdir(parents=True)
        (tmp_path / "mine" / name).write_bytes(png())
    odd = tmp_path / "mine" / "train" / "a" / "2.png"
    os.mkfifo(odd) if kind == "pipe" else odd.symlink_to("/dev/zero" if kind == "device" else "/nowhere")
    with promptly(), pytest.raises(InputError, match=r"2\.png"):
        read(tmp_path / "mine")


# ---- features that somebody changed


def test_hostile_features_in_a_run_folder_are_damage(tmp_path, digits_root):
    """test_files.py has every kind of hostile HDF5; here one is found by the door that reads them."""
    import h5py

    directory = new_run(tmp_path / "outputs", digits_root)
    (directory / "features").mkdir()
    with h5py.File(directory / "features" / "c0000.h5", "w") as file:
        file.create_dataset("features", (4, 16), "<f4", external=[("/etc/passwd", 0, 256)])
        file.create_dataset("pseudo_labels", data=np.zeros(4, np.uint16))
    twin = new_run(tmp_path / "outputs", digits_root, seed=2)
    with pytest.raises(DamagedFile):
        feature_dumps.copy_features(directory, twin, cycle=0, k=6)
    assert not (twin / "features").exists()


@pytest.mark.parametrize("name", ["config.json", "result.json", "metrics.csv", "attempts/0001.json"])
@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_a_link_or_a_pipe_in_a_run_folder_is_damage_and_not_waited_for(tmp_path, digits_root, name, kind):
    directory = new_run(tmp_path / "outputs", digits_root)
    run_directory.start_attempt(directory, {})
    metrics_csv.write_metrics(directory, [])
    run_directory.finish(directory, {"ia": 0.5})
    (directory / name).rename(tmp_path / "true")
    os.mkfifo(directory / name) if kind == "pipe" else (directory / name).symlink_to(tmp_path / "true")
    with promptly():
        (row,) = records(load_runs(tmp_path / "outputs"))
    if name.startswith("attempts"):  # says where a run ran, not what it found
        assert row["state"] == "done" and row["attempts"] == 0
    else:
        assert row["state"] == "damaged" and row["state_reason"].startswith(name)


# ---- what the disk says last


@pytest.mark.parametrize("write", [atomic_files.replace_bytes, atomic_files.write_once])
def test_a_full_quota_that_shows_only_at_close_is_an_error(tmp_path, monkeypatch, write):
    """NFS may take every write and say at the end that there was no room."""
    real = os.close

    def full(handle):
        regular = stat.S_ISREG(os.fstat(handle).st_mode)
        real(handle)
        if regular:
            raise OSError(errno.EDQUOT, "Disk quota exceeded")

    (tmp_path / "outputs").mkdir()
    monkeypatch.setattr(os, "close", full)
    with pytest.raises(OSError, match="quota"):
        write(tmp_path / "outputs" / "a", b"new")
    monkeypatch.undo()
    assert not list((tmp_path / "outputs").iterdir())
