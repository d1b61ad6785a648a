"""Downloads from a server of the test's own: whole, checked, alone and never in place of a file."""

import functools
import http.server
import io
import sys
import tarfile
import threading
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import torchvision.datasets as tv
from torchvision.datasets import utils
from written_sets import channels_first, make, md5, pack, refusal

from intrinsic_lr.data import dataset as data
from intrinsic_lr.data.torchvision_sets import SOURCES

NOWHERE = "http://127.0.0.1:9/"


class Handler(http.server.SimpleHTTPRequestHandler):
    requests = None

    def log_message(self, *_):
        self.requests.append(self.path)


@pytest.fixture
def mirror(tmp_path):
    """A server of the folder `mirror`: its address, its folder, and the paths that were asked for."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    asked = []
    handler = functools.partial(type("Asked", (Handler,), {"requests": asked}), directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield types.SimpleNamespace(url=f"http://127.0.0.1:{server.server_port}/", folder=folder, asked=asked)
        server.shutdown()
        thread.join()


@pytest.fixture
def mnist(mirror, tmp_path, monkeypatch):
    """MNIST on the server, and its definition with a root that does not exist yet."""
    spec, train, _ = make(mirror.folder, "MNIST", monkeypatch)
    folder = mirror.folder / "MNIST/raw"
    pack(folder)
    files = [Path(archive).name for archive in SOURCES["MNIST"].archives]
    monkeypatch.setattr(tv.MNIST, "resources", [(file, md5(folder / file)) for file in files])
    monkeypatch.setattr(tv.MNIST, "mirrors", [f"{mirror.url}MNIST/raw/"])
    return {**spec, "root": str(tmp_path / "root"), "download": True}, train


@pytest.fixture
def cifar(mirror, tmp_path, monkeypatch):
    """CIFAR10 on the server, and its definition with a root that does not exist yet."""
    spec, train, _ = make(mirror.folder, "CIFAR10", monkeypatch)
    archive = mirror.folder / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(mirror.folder / "cifar-10-batches-py", "cifar-10-batches-py")
    serve(archive, mirror, monkeypatch)
    return {**spec, "root": str(tmp_path / "root"), "download": True}, train


def serve(archive, mirror, monkeypatch):
    monkeypatch.setattr(tv.CIFAR10, "url", mirror.url + archive.name)
    monkeypatch.setattr(tv.CIFAR10, "tgz_md5", md5(archive))


def holds(spec, train):
    images = data.prepare(spec, "mine")[0]["train_images"]
    return torch.equal(images, channels_first(train[0]))


def visible(root):
    return sorted(path.name for path in root.iterdir() if path.name != ".download.lock")


@pytest.mark.parametrize("name", ["mnist", "cifar"])
def test_a_set_is_downloaded_once_and_read(name, mirror, request):
    spec, train = request.getfixturevalue(name)
    assert holds(spec, train)
    asked = len(mirror.asked)
    assert asked > 0
    assert holds(spec, train)
    assert holds({**spec, "download": False}, train)
    assert len(mirror.asked) == asked


def test_two_processes_download_once(cifar, mirror):
    spec, train = cifar
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda _: holds(spec, train), range(2))) == [True, True]
    # torchvision asks for a file twice, first whether the address leads elsewhere.
    assert mirror.asked == ["/cifar-10-python.tar.gz"] * 2


@pytest.mark.parametrize("place", ["torchvision.datasets.utils._urlretrieve", "tarfile.TarFile.extractall"])
def test_a_download_that_breaks_off_leaves_nothing_and_is_made_again(place, cifar, monkeypatch):
    spec, train = cifar
    root = Path(spec["root"])

    def half(first, second, *_, **__):
        folder = Path(second)
        if place.endswith("extractall"):
            (folder / "cifar-10-batches-py").mkdir()
            (folder / "cifar-10-batches-py/data_batch_1").write_bytes(b"half")
        else:
            folder.write_bytes(b"half")
        raise OSError("the line is dead")

    with monkeypatch.context() as broken:
        broken.setattr(place, half)
        assert "OSError: the line is dead" in refusal(spec)
    assert visible(root) == []
    assert holds(spec, train)


def test_what_a_killed_download_left_is_no_part_of_the_next(cifar):
    spec, train = cifar
    left = Path(spec["root"], ".download/cifar-10-batches-py")
    left.mkdir(parents=True)
    (left / "data_batch_1").write_bytes(b"half")
    assert holds(spec, train)
    assert visible(Path(spec["root"])) == ["cifar-10-batches-py", "cifar-10-python.tar.gz"]


def test_archives_put_there_by_hand_are_unpacked_without_a_network(cifar, mirror, monkeypatch):
    spec, train = cifar
    root = Path(spec["root"])
    root.mkdir()
    archive = mirror.folder / "cifar-10-python.tar.gz"
    (root / archive.name).write_bytes(archive.read_bytes())
    monkeypatch.setattr(tv.CIFAR10, "url", NOWHERE + archive.name)
    assert holds(spec, train)


def test_what_is_there_is_completed_but_never_replaced(cifar):
    spec, train = cifar
    folder = Path(spec["root"], "cifar-10-batches-py")
    folder.mkdir(parents=True)
    (folder / "test_batch").write_bytes(b"mine")
    (folder / "notes").write_text("also mine")
    assert f"{str(folder / 'test_batch')!r} is damaged or another file" in refusal(spec)
    assert (folder / "data_batch_1").exists()
    assert (folder / "test_batch").read_bytes() == b"mine"
    (folder / "test_batch").unlink()
    assert holds(spec, train)
    assert (folder / "notes").read_text() == "also mine"


@pytest.mark.parametrize("harm", ["cut", "changed"])
def test_an_archive_of_another_hash_is_refused(harm, cifar, mirror):
    spec, _ = cifar
    archive = mirror.folder / "cifar-10-python.tar.gz"
    content = archive.read_bytes()
    archive.write_bytes(content[:-9] if harm == "cut" else content + b" ")
    assert "CIFAR10 cannot be downloaded" in refusal(spec)
    assert visible(Path(spec["root"])) == []


@pytest.mark.skipif(not hasattr(tarfile, "data_filter"), reason="this Python cannot filter archives")
@pytest.mark.parametrize("escape", ["above", "absolute", "link"])
def test_an_archive_cannot_write_outside_its_folder(escape, cifar, mirror, tmp_path, monkeypatch):
    spec, _ = cifar
    archive = mirror.folder / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        if escape == "link":
            link = tarfile.TarInfo("inside")
            link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
            tar.addfile(link)
        names = {"above": "../../outside", "absolute": str(tmp_path / "outside"), "link": "inside/outside"}
        member = tarfile.TarInfo(names[escape])
        member.size = 1
        tar.addfile(member, io.BytesIO(b"x"))
    serve(archive, mirror, monkeypatch)

    def unpack(file, folder, compression):
        """As torchvision does up to version 0.26: without a filter of its own."""
        with tarfile.open(file) as tar:
            tar.extractall(folder)

    monkeypatch.setitem(utils._ARCHIVE_EXTRACTORS, ".tar", unpack)
    assert "CIFAR10 cannot be downloaded" in refusal(spec)
    assert not list(tmp_path.rglob("outside"))
    assert visible(Path(spec["root"])) == []


def test_without_a_network_the_files_to_place_are_named(mnist, monkeypatch):
    spec, _ = mnist
    monkeypatch.setattr(tv.MNIST, "mirrors", [NOWHERE])
    message = refusal(spec)
    assert "Connection refused" in message
    assert repr(spec["root"]) in message
    for kind in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        assert f"MNIST/raw/{kind}-ubyte.gz" in message


def test_a_root_that_cannot_be_made_is_named(mnist, tmp_path):
    (tmp_path / "file").write_text("")
    message = refusal({**mnist[0], "root": str(tmp_path / "file/root")})
    assert "Not a directory" in message


@pytest.mark.parametrize("name", [name for name, source in SOURCES.items() if source.archives])
def test_archives_are_those_that_torchvision_downloads_and_checks(name, tmp_path, monkeypatch):
    """The loaders run with downloading functions that only write down what they were asked for."""
    source = SOURCES[name]
    loader = getattr(tv, source.loader)
    asked = []

    def note(url, folder, filename=None, md5=None, **_):
        asked.append((Path(folder, filename or Path(url).name).relative_to(tmp_path), md5))

    module = sys.modules[loader.__module__]
    for function in ("download_url", "download_file_from_google_drive"):
        monkeypatch.setattr(module, function, note, raising=False)
    monkeypatch.setattr(
        module,
        "download_and_extract_archive",
        lambda url, download_root, filename=None, md5=None: note(url, download_root, filename, md5),
        raising=False,
    )
    monkeypatch.setattr(module, "_decompress", lambda *_: None, raising=False)
    monkeypatch.setitem(sys.modules, "h5py", types.SimpleNamespace())
    for arguments in source.splits:
        # Nothing came, so the loaders fail once they have asked.
        with pytest.raises((RuntimeError, OSError)):
            loader(str(tmp_path), **arguments, download=True)
    assert {str(path) for path, _ in asked} == set(source.archives)
    assert all(len(md5) == 32 for _, md5 in asked)
