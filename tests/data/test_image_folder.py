"""Folders of images: read exactly and in one order; every mistake in them is one line that names the file."""

import contextlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from written_sets import NAMES, channels_first, labels_of, pictures, refusal, rows, save, write_folders

from intrinsic_lr.data import dataset as data
from intrinsic_lr.data import image_folder

TRAIN, TEST = labels_of(3)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    images = pictures(len(TRAIN), 6, 8, 3)
    write_folders("train", "test")(tmp_path, (images, TRAIN), (images[: len(TEST)], TEST), monkeypatch)
    return {"kind": "image_folder", "root": str(tmp_path)}


@pytest.fixture
def first(folder):
    """The first training image."""
    return min(Path(folder["root"], "train/ape").iterdir())


@pytest.fixture
def root(folder):
    return Path(folder["root"])


def test_an_image_folder_is_read_exactly_and_keeps_no_path(folder, root, tmp_path_factory):
    tensors, info = data.prepare(folder, "mine")
    expected = channels_first(pictures(len(TRAIN), 6, 8, 3)), torch.from_numpy(TRAIN)
    assert rows(tensors["train_images"], tensors["train_labels"]) == rows(*expected)
    assert (info["classes"], info["shape"]) == (NAMES, [3, 6, 8])
    assert (info["train_count"], info["test_count"]) == (len(TRAIN), len(TEST))
    moved = root.rename(tmp_path_factory.mktemp("there") / "images")
    assert same(data.prepare({**folder, "root": str(moved)}, "mine")[0], tensors)
    assert str(root) not in str(info)


def same(tensors, expected):
    return all(torch.equal(tensors[key], tensor) for key, tensor in expected.items())


def test_the_order_is_that_of_the_names_on_any_file_system(folder, monkeypatch):
    expected, _ = data.prepare(folder, "mine")
    scandir = os.scandir
    for backwards in (False, True):

        def entries(path, backwards=backwards):
            return contextlib.nullcontext(sorted(scandir(path), key=lambda entry: entry.name, reverse=backwards))

        monkeypatch.setattr(os, "scandir", entries)
        assert same(data.prepare(folder, "mine")[0], expected)


def test_an_image_folder_can_be_read_grey_and_small(folder, first):
    tensors, info = data.prepare({**folder, "grayscale": True, "image_size": 6}, "mine")
    assert info["shape"] == [1, 6, 6]
    with Image.open(first) as image:
        expected = np.array(image.convert("L").crop((1, 0, 7, 6)))
    assert torch.equal(tensors["train_images"][0, 0], torch.from_numpy(expected))


GREY = pictures(1, 6, 8)[0]
COLOURS = np.stack([GREY, GREY + 1, GREY // 2], axis=-1)
MODES = {
    "L": (GREY, np.dstack([GREY] * 3)),
    "RGBA": (np.dstack([COLOURS, np.full((6, 8), 7, np.uint8)]), COLOURS),
    "LA": (np.dstack([GREY, GREY]), np.dstack([GREY] * 3)),
    "1": (GREY > 99, np.dstack([255 * (GREY > 99)] * 3).astype(np.uint8)),
}


@pytest.mark.parametrize("mode", MODES)
def test_other_modes_of_8_bits_become_the_channels_asked_for(mode, folder, first):
    array, expected = MODES[mode]
    image = Image.fromarray(array)
    assert image.mode == mode
    image.save(first, format="PNG")
    assert torch.equal(data.prepare(folder, "mine")[0]["train_images"][0], channels_first(expected[None])[0])


@pytest.mark.parametrize(("dtype", "value"), [(np.uint16, 300), (np.int32, 1), (np.float32, 1)])
def test_images_of_more_than_8_bits_are_refused_not_cut_off(dtype, value, folder, first):
    path = first.with_suffix(".tif")
    first.unlink()
    Image.fromarray(np.full((6, 8), value, dtype)).save(path)
    assert f"{str(path)!r} cannot be read (ValueError: mode" in refusal(folder)


@pytest.mark.parametrize("content", [b"", b"not an image"])
@pytest.mark.parametrize("name", ["test/bee/-rf é.png", "train/cat/; ls\n.png"])
def test_an_unreadable_image_is_named(folder, root, content, name):
    (root / name).write_bytes(content)
    assert f"{str(root / name)!r} cannot be read" in refusal(folder)


@pytest.mark.parametrize("size", [{}, {"image_size": 4}])
def test_an_image_without_its_last_bytes_is_refused(size, folder, root):
    path = root / "train/bee/9.jpg"
    Image.fromarray(pictures(1, 6, 8, 3)[0]).save(path, quality=95)
    data.prepare({**folder, **size}, "mine")
    path.write_bytes(path.read_bytes()[:-60])
    assert f"{str(path)!r} cannot be read (OSError: image file is truncated" in refusal({**folder, **size})


def test_names_of_any_kind_are_read_and_hidden_files_left_out(folder, root):
    for part in ("train", "test"):
        (root / part / "ape").rename(root / part / "-- ü $(ls) 'x'")
    for path in (root / "train/bee").iterdir():
        path.rename(path.with_name(f"- {path.stem} ñ\n.PNG"))
    (root / "train/.ipynb_checkpoints").mkdir()
    for name in (".DS_Store", "cat/.DS_Store", "cat/._00.png", "cat/Thumbs.db", "desktop.ini"):
        (root / "train" / name).write_bytes(b"x")
    info = data.prepare(folder, "mine")[1]
    assert info["classes"] == ["-- ü $(ls) 'x'", "bee", "cat"]
    assert info["train_count"] == len(TRAIN)


def test_links_and_the_home_folder_are_followed(folder, root, first, tmp_path_factory, monkeypatch):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    expected, _ = data.prepare(folder, "mine")
    for path in (root / "train/bee", first):
        path.rename(elsewhere / path.name)
        path.symlink_to(elsewhere / path.name)
    assert same(data.prepare(folder, "mine")[0], expected)
    monkeypatch.setenv("HOME", str(root))
    assert sum(map(len, image_folder.files({"root": "~"}, "train", "mine").values())) == len(TRAIN)
    (elsewhere / first.name).unlink()
    assert f"{str(first)!r} cannot be read" in refusal(folder)


@pytest.mark.parametrize(
    "path", ["train/bee/labels.csv", "train/bee/video.gif", "test/readme.png", "train/bee/more/"]
)
def test_what_is_no_image_of_a_class_is_refused(path, folder, root):
    (root / path).mkdir() if path.endswith("/") else (root / path).write_bytes(b"x")
    assert repr(str(root / path)) in refusal(folder)


@pytest.mark.parametrize("odd", ["train/bee/999.png", "test/ape/000.png"])
def test_differing_sizes_name_the_first_two_files(odd, folder, root, first):
    for path in [root / odd, *(root.glob("test/*/*") if "test" in odd else [])]:
        save(path, np.zeros((4, 9, 3), np.uint8))
    assert f"{str(first)!r} (6x8) and {str(root / odd)!r} (4x9)" in refusal(folder)
    assert data.prepare({**folder, "image_size": 3}, "mine")[1]["shape"] == [3, 3, 3]


@pytest.mark.parametrize("part", ["train", "test"])
def test_missing_images_classes_and_folders_are_named(part, folder, root):
    cats = root / part / "cat"
    for path in cats.iterdir():
        path.unlink()
    assert f"{str(cats)!r} has no images" in refusal(folder)
    cats.rmdir()
    assert "['cat'] in one of them alone" in refusal(folder)
    for name in ("test/bee", "train/bee", *(["test/cat"] if part == "train" else ["train/cat"])):
        (root / name).rename(root / name.replace("/", "-"))
    assert "got only 'ape'" in refusal(folder)
    (root / part / "ape").rename(root / "ape")
    assert repr(str(root / part)) in refusal(folder)
    (root / part).rmdir()
    assert str(root / part) in refusal(folder)
    (root / part).write_bytes(b"an archive")
    assert str(root / part) in refusal(folder)


def test_images_of_one_value_are_refused(folder, root):
    for path in root.glob("*/*/*"):
        save(path, np.full((2, 2, 3), 7, np.uint8))
    assert "every training pixel of channel 0 is 7" in refusal(folder)


def test_more_images_than_memory_holds_are_refused(folder, monkeypatch):
    empty = np.empty

    def no_room(shape, dtype):
        if np.ndim(shape) and len(shape) == 4:
            raise MemoryError("no room")
        return empty(shape, dtype)

    monkeypatch.setattr(np, "empty", no_room)
    message = refusal(folder)
    assert f"{len(TRAIN)} images of 3x6x8" in message
    assert "MemoryError: no room" in message
