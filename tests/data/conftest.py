"""What the tests of data sets share: small official files, and a server that torchvision downloads them from."""

from __future__ import annotations

import functools
import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torchvision
from support import official_formats as true
from support.small_datasets import GREY_TEST, GREY_TRAIN, TEST, TRAIN, WRITERS


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with every known set, small, whose files count as the official ones; the data root is elsewhere."""
    reference = tmp_path / "reference"
    for write in WRITERS.values():
        write(reference)
    true.count_as_official(monkeypatch, reference, WRITERS)
    true.without_system_package(monkeypatch)
    return reference


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


class QuietServer(http.server.ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """torchvision hangs up on some answers: no word of it, since a test below wants nothing printed."""


@pytest.fixture
def server(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder served over HTTP that torchvision takes for the official servers, with the small sets in it."""
    folder = tmp_path / "served"
    true.write_idx(folder, GREY_TRAIN, GREY_TEST, compressed=True)
    true.write_svhn(folder, TRAIN, TEST)
    true.write_cifar10_python(folder, TRAIN, TEST, archive=True)
    handler = functools.partial(QuietHandler, directory=str(folder))
    with QuietServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        point_torchvision_at(f"http://127.0.0.1:{running.server_port}/", folder, monkeypatch)
        yield folder
        running.shutdown()
        thread.join()


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    point_torchvision_at(f"http://127.0.0.1:{port}/", None, monkeypatch)


def point_torchvision_at(url: str, folder: Path | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    sets = torchvision.datasets
    for kind in (sets.MNIST, sets.FashionMNIST):
        monkeypatch.setattr(kind, "mirrors", [url])
        if folder:
            sums = [(f"{name}.gz", true.md5_of(folder / f"{name}.gz")) for name in true.IDX_FILES]
            monkeypatch.setattr(kind, "resources", sums)
    split_list = {part: [f"{url}{file}", file, md5] for part, (_, file, md5) in sets.SVHN.split_list.items()}
    monkeypatch.setattr(sets.SVHN, "split_list", split_list)
    monkeypatch.setattr(sets.CIFAR10, "url", f"{url}cifar-10-python.tar.gz")
    if folder:
        monkeypatch.setattr(sets.CIFAR10, "tgz_md5", true.md5_of(folder / "cifar-10-python.tar.gz"))
