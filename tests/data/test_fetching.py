"""Fetching: whole and verified or not at all, from every source; and the command."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support import official_formats as true
from support.small_datasets import GREY_TEST, GREY_TRAIN, TEST, TRAIN, assert_holds, contents
from typer.testing import CliRunner

from dc_hpc.data import fetching
from dc_hpc.data.catalog import DATASETS
from dc_hpc.data.fetching import fetch
from dc_hpc.data.official import load, verify
from dc_hpc.errors import InputError
from dc_hpc.fetch import app

# ---- fetching


@pytest.mark.parametrize("name", DATASETS)
def test_fetch_leaves_verified_files_alone(small: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "_download", lambda name, stage: pytest.fail("downloaded"))
    before, said = contents(small), []
    fetch(name, small, report=said.append)
    assert contents(small) == before and len(said) == 1 and "is there and verified" in said[0]


@pytest.mark.parametrize("name", ["fmnist", "mnist", "cifar10", "cifar10-binary"])
def test_fetch_unpacks_what_was_put_there(small: Path, tmp_path: Path, name: str) -> None:
    root = tmp_path / "data"
    {
        "fmnist": lambda: true.write_idx(root / "FashionMNIST/raw", GREY_TRAIN, GREY_TEST, compressed=True),
        "mnist": lambda: true.write_idx(root / "MNIST/raw", GREY_TRAIN, GREY_TEST, compressed=True),
        "cifar10": lambda: true.write_cifar10_python(root, TRAIN, TEST, archive=True),
        "cifar10-binary": lambda: true.write_cifar10_binary(root, TRAIN, TEST, archive=True),
    }[name]()
    short = name.removesuffix("-binary")
    fetch(short, root, report=lambda line: None)
    assert {file: contents(root)[file][0] for file in true.official_form(name).files} == true.official_form(name).files
    assert_holds(load(short, root), *((GREY_TRAIN, GREY_TEST) if "mnist" in name else (TRAIN, TEST)))
    assert not list(root.glob(".fetch-*"))


def test_fetch_repairs_a_damaged_set(small: Path) -> None:
    true.write_idx(small / "MNIST/raw", GREY_TRAIN, GREY_TEST, compressed=True)
    (small / "MNIST/raw/train-labels-idx1-ubyte").write_bytes(b"half")
    fetch("mnist", small, report=lambda line: None)
    assert_holds(load("mnist", small), GREY_TRAIN, GREY_TEST)


@pytest.mark.parametrize("archive", [False, True])
def test_what_fetch_calls_verified_is_loaded(small: Path, unreachable: None, archive: bool) -> None:
    """CIFAR10's first form is damaged and cannot be downloaded; the other one is whole, or in an archive."""
    shutil.rmtree(small / "cifar-10-batches-bin")
    true.write_cifar10_binary(small, TRAIN, TEST, archive=archive)
    damaged = small / "cifar-10-batches-py" / "data_batch_1"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    lines: list[str] = []
    fetch("cifar10", small, report=lines.append)
    assert "cifar-10-batches-bin" in lines[-1]
    assert_holds(load("cifar10", small), TRAIN, TEST)
    verify("cifar10", small)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("disk full"), RuntimeError("no route")])
def test_interrupted_fetch_leaves_everything_as_it_was(
    small: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    (small / "SVHN/train_32x32.mat").write_bytes(b"damaged")
    before = contents(small)

    def half_a_download(name: str, stage: Path) -> None:
        (stage / "SVHN").mkdir()
        (stage / "SVHN/train_32x32.mat").write_bytes(b"half")
        raise error

    monkeypatch.setattr(fetching, "_download", half_a_download)
    with pytest.raises(KeyboardInterrupt if error is KeyboardInterrupt else InputError):
        fetch("svhn", small, report=lambda line: None)
    assert contents(small) == before and not list(small.glob(".fetch-*"))


def test_damaged_gz_is_not_put_in_place(small: Path, tmp_path: Path, unreachable: None) -> None:
    raw = tmp_path / "data/FashionMNIST/raw"
    true.write_idx(raw, GREY_TRAIN, GREY_TEST, compressed=True)
    whole = (raw / "train-images-idx3-ubyte.gz").read_bytes()
    for content in (whole[:-300], b"no gzip", b"", whole[:100] + b"xxxx" + whole[104:]):
        (raw / "train-images-idx3-ubyte.gz").write_bytes(content)
        before = contents(tmp_path / "data")
        with pytest.raises(InputError, match=f"what was tried: {raw}/.*; torchvision's download: "):
            fetch("fmnist", tmp_path / "data", report=lambda line: None)
        assert contents(tmp_path / "data") == before


def test_root_that_cannot_be_written(small: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=f"{tmp_path}/file.*cannot be written.*--data"):
        fetch("mnist", tmp_path / "file", report=lambda line: None)
    with pytest.raises(InputError, match="'imagenet' cannot be fetched; allowed are fmnist, mnist, svhn, cifar10"):
        fetch("imagenet", tmp_path)


@pytest.mark.parametrize("name", DATASETS)
def test_torchvisions_download_over_http(
    small: Path, server: Path, tmp_path: Path, name: str, capfd: pytest.CaptureFixture
) -> None:
    root, said = tmp_path / "data", []
    if name == "svhn":  # savemat writes the time into its header: serve the very files whose sums are official
        shutil.copytree(small / "SVHN", server, dirs_exist_ok=True)
    fetch(name, root, report=said.append)
    assert said[-1].startswith(f"{name}: fetched from torchvision's download and verified")
    assert_holds(load(name, root), *((GREY_TRAIN, GREY_TEST) if "mnist" in name else (TRAIN, TEST)))
    assert capfd.readouterr() == ("", "")
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize("name", DATASETS)
def test_server_with_other_files(small: Path, server: Path, tmp_path: Path, name: str) -> None:
    for path in server.iterdir():
        path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(InputError, match=f"{name} could not be fetched: .*{tmp_path}/data.*torchvision's download: "):
        fetch(name, tmp_path / "data", report=lambda line: None)
    assert contents(tmp_path / "data") == {}


def test_no_source_says_what_to_do_in_one_line(small: Path, unreachable: None, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        fetch("fmnist", tmp_path / "data", report=lambda line: None)
    message = str(caught.value)
    assert "\n" not in message
    assert "apt-get install dataset-fashion-mnist" in message and f"{tmp_path}/data/FashionMNIST/raw" in message
    assert "on a machine with internet" in message


# ---- the command


def test_command_fetches_all_and_goes_on_after_a_failure(small: Path, unreachable: None) -> None:
    shutil.rmtree(small / "MNIST")
    (small / "SVHN/test_32x32.mat").unlink()
    run = CliRunner().invoke(app, ["all"], env={"DC_HPC_DATA": str(small)})
    assert isinstance(run.exception, InputError)
    assert str(run.exception) == "2 of 4 not fetched: mnist, svhn; see the lines above"
    assert "fmnist: is there and verified" in run.stdout and "cifar10: is there and verified" in run.stdout
    assert run.stderr.count("\n") == 2 and "svhn could not be fetched: put train_32x32.mat" in run.stderr


def test_command_with_names(small: Path, unreachable: None) -> None:
    run = CliRunner().invoke(app, ["svhn", "fmnist", "--data", str(small)])
    assert run.exit_code == 0 and run.stdout.count("verified") == 2
    shutil.rmtree(small / "SVHN")
    run = CliRunner().invoke(app, ["svhn", "--data", str(small)])
    assert isinstance(run.exception, InputError) and str(run.exception).startswith("svhn could not be fetched")
    run = CliRunner().invoke(app, ["fmnist", "imagenet", "--data", str(small)])
    assert isinstance(run.exception, InputError)
    assert "'imagenet' cannot be fetched; allowed: fmnist" in str(run.exception)
    assert CliRunner().invoke(app, []).exit_code == 2


def test_names_and_help_need_no_torch() -> None:
    code = (
        "import sys; import dc_hpc.data.custom, dc_hpc.data.official; from dc_hpc.fetch import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
