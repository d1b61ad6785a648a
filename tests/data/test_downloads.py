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
from intrinsic_lr.data.torchvision_sources import SOURCES

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
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        yield types.SimpleNamespace(url=f"http://127.0.0.1:{server.server_port}/", folder=folder, asked=asked)
        server.shutdown()


@pytest.fixture
def mnist(mirror, tmp_path, monkeypatch):
    """MNIST on the server, and its definition with a root that does not exist yet."""
    spec, train, _ = make(mirror.folder, "MNIST", monkeypatch)
    folder = mirror.folder / "MNIST/raw"
    pack(folder)
    monkeypatch.setattr(tv.MNIST, "resources", [(file.name, md5(file)) for file in folder.iterdir()])
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


def test_without_a_network_the_files_to_place_are_named(mnist, tmp_path, monkeypatch):
    spec, _ = mnist
    (tmp_path / "file").write_text("")
    assert "Not a directory" in refusal({**spec, "root": str(tmp_path / "file/root")})
    monkeypatch.setattr(tv.MNIST, "mirrors", [NOWHERE])
    message = refusal(spec)
    assert "Connection refused" in message
    assert all(word in message for word in (repr(spec["root"]), *SOURCES["MNIST"].archives))


@pytest.mark.parametrize("name", [name for name, source in SOURCES.items() if source.archives])
def test_archives_are_those_that_torchvision_downloads_and_checks(name, tmp_path, monkeypatch):
    """The loaders run with downloading functions that only write down what they were asked for."""
    source = SOURCES[name]
    loader = getattr(tv, source.loader)
    asked = []

    def note(url, folder, filename=None, md5=None, **_):
        asked.append((Path(folder, filename or Path(url).name).relative_to(tmp_path), md5))

    def note_extracting(url, download_root, filename=None, md5=None):
        note(url, download_root, filename, md5)

    module = sys.modules[loader.__module__]
    for function in ("download_url", "download_file_from_google_drive"):
        monkeypatch.setattr(module, function, note, raising=False)
    monkeypatch.setattr(module, "download_and_extract_archive", note_extracting, raising=False)
    monkeypatch.setattr(module, "_decompress", lambda *_: None, raising=False)
    monkeypatch.setitem(sys.modules, "h5py", types.SimpleNamespace())
    for arguments in source.splits:
        # Nothing came, so the loaders fail once they have asked.
        with pytest.raises((RuntimeError, OSError)):
            loader(str(tmp_path), **arguments, download=True)
    assert {str(path) for path, _ in asked} == set(source.archives)
    assert all(len(md5) == 32 for _, md5 in asked)


def test_two_processes_download_once_and_half_a_download_of_a_killed_one_is_no_part(cifar, mirror):
    spec, train = cifar
    left = Path(spec["root"], ".download/cifar-10-batches-py")
    left.mkdir(parents=True)
    (left / "data_batch_1").write_bytes(b"half")
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda _: holds(spec, train), range(2))) == [True, True]
    assert visible(Path(spec["root"])) == ["cifar-10-batches-py", "cifar-10-python.tar.gz"]
    # torchvision asks for a file twice, first whether the address leads elsewhere.
    assert mirror.asked == ["/cifar-10-python.tar.gz"] * 2


@pytest.mark.parametrize("place", ["torchvision.datasets.utils._urlretrieve", "tarfile.TarFile.extractall"])
def test_a_download_that_breaks_off_or_is_another_file_leaves_nothing(place, cifar, mirror, monkeypatch):
    """And is made again."""
    spec, train = cifar

    def half(first, second, *_, **__):
        file = Path(second, "half") if place.endswith("extractall") else Path(second)
        file.write_bytes(b"half")
        raise OSError("the line is dead")

    with monkeypatch.context() as broken:
        broken.setattr(place, half)
        assert "OSError: the line is dead" in refusal(spec)
    assert visible(Path(spec["root"])) == []
    archive = mirror.folder / "cifar-10-python.tar.gz"
    content = archive.read_bytes()
    for changed in (content[:-9], content + b" "):
        archive.write_bytes(changed)
        assert "CIFAR10 cannot be downloaded" in refusal(spec)
        assert visible(Path(spec["root"])) == []
    archive.write_bytes(content)
    assert holds(spec, train)


@pytest.mark.parametrize("link", [".download", "cifar-10-batches-py"])
def test_a_download_writes_through_no_link(link, cifar, tmp_path):
    spec, train = cifar
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine").write_text("mine")
    Path(spec["root"]).mkdir()
    Path(spec["root"], link).symlink_to(elsewhere)
    if link == ".download":
        assert holds(spec, train)
    else:
        assert "cifar-10-batches-py' is a link, through which nothing is written" in refusal(spec)
    assert [path.name for path in elsewhere.iterdir()] == ["mine"]
