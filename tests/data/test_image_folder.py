"""Folders of images: read exactly and in one order; every mistake in them is one line that names the file."""

import contextlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from written_sets import NAMES, channels_first, labels_of, pictures, refusal, rows, save, write_folders

from intrinsic_lr.core.errors import InputError
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


def test_an_image_folder_is_read_exactly(folder):
    tensors, info = data.prepare(folder, "mine")
    expected = channels_first(pictures(len(TRAIN), 6, 8, 3)), torch.from_numpy(TRAIN)
    assert rows(tensors["train_images"], tensors["train_labels"]) == rows(*expected)
    assert info["classes"] == NAMES
    assert info["shape"] == [3, 6, 8]
    assert (info["train_count"], info["test_count"]) == (len(TRAIN), len(TEST))


def test_the_order_is_that_of_the_names_on_any_file_system(folder, monkeypatch):
    expected, _ = data.prepare(folder, "mine")
    scandir = os.scandir

    def listed(backwards):
        def entries(path):
            return contextlib.nullcontext(sorted(scandir(path), key=lambda entry: entry.name, reverse=backwards))

        return entries

    found = []
    for backwards in (False, True):
        monkeypatch.setattr(os, "scandir", listed(backwards))
        found.append(data.prepare(folder, "mine")[0])
    for key, tensor in expected.items():
        assert all(torch.equal(tensor, tensors[key]) for tensors in found)


def test_a_moved_folder_gives_the_same_bytes(folder, tmp_path_factory):
    places = []
    root = Path(folder["root"])
    for name in ("here", "there"):
        target = tmp_path_factory.mktemp(name) / "images"
        root = root.rename(target) if name == "there" else root
        paths = target.parent / "d.safetensors", target.parent / "d.json"
        data.write({**folder, "root": str(root)}, "mine", *paths)
        places.append([path.read_bytes() for path in paths])
    assert places[0] == places[1]


def test_an_image_folder_can_be_read_grey_and_small(folder, first):
    tensors, info = data.prepare({**folder, "grayscale": True, "image_size": 6}, "mine")
    assert info["shape"] == [1, 6, 6]
    with Image.open(first) as image:
        expected = np.array(image.convert("L").crop((1, 0, 7, 6)))
    assert torch.equal(tensors["train_images"][0, 0], torch.from_numpy(expected))


GREY = pictures(1, 6, 8)[0]
COLOURS = np.stack([GREY, GREY + 1, GREY // 2], axis=-1)


@pytest.mark.parametrize(
    ("mode", "array", "expected"),
    [
        ("L", GREY, np.stack([GREY] * 3, axis=-1)),
        ("RGBA", np.dstack([COLOURS, np.full((6, 8), 7, np.uint8)]), COLOURS),
        ("LA", np.dstack([GREY, GREY]), np.stack([GREY] * 3, axis=-1)),
        ("1", GREY > 99, np.stack([255 * (GREY > 99)] * 3, axis=-1).astype(np.uint8)),
    ],
)
def test_other_modes_of_8_bits_become_the_channels_asked_for(mode, array, expected, folder, first):
    image = Image.fromarray(array)
    assert image.mode == mode
    image.save(first, format="PNG")
    found = data.prepare(folder, "mine")[0]["train_images"][0]
    assert torch.equal(found, channels_first(expected[None])[0])


@pytest.mark.parametrize(
    "array", [np.full((6, 8), 300, np.uint16), np.ones((6, 8), np.int32), np.ones((6, 8), "f4")]
)
def test_images_of_more_than_8_bits_are_refused_not_cut_off(array, folder, first):
    first.unlink()
    path = first.with_suffix(".tif")
    Image.fromarray(array).save(path)
    assert f"{str(path)!r} cannot be read (ValueError: mode" in refusal(folder)


@pytest.mark.parametrize("content", [b"", b"not an image", "cut"])
@pytest.mark.parametrize("name", ["test/bee/-rf é.png", "train/cat/; ls\n.png"])
def test_an_unreadable_image_is_named(folder, first, content, name):
    path = Path(folder["root"], name)
    path.write_bytes(first.read_bytes()[:60] if content == "cut" else content)
    assert f"{str(path)!r} cannot be read" in refusal(folder)


@pytest.mark.parametrize("image_size", [None, 4])
def test_an_image_without_its_last_bytes_is_refused(image_size, folder):
    path = Path(folder["root"], "train/bee/9.jpg")
    Image.fromarray(pictures(1, 6, 8, 3)[0]).save(path, quality=95)
    spec = folder if image_size is None else {**folder, "image_size": image_size}
    data.prepare(spec, "mine")
    path.write_bytes(path.read_bytes()[:-60])
    assert f"{str(path)!r} cannot be read (OSError: image file is truncated" in refusal(spec)


def test_names_of_any_kind_are_read(folder):
    root = Path(folder["root"])
    for part in ("train", "test"):
        (root / part / "ape").rename(root / part / "-- ü $(ls) 'x'")
    for path in (root / "train/bee").iterdir():
        path.rename(path.with_name(f"- {path.stem} ñ\n.PNG"))
    info = data.prepare(folder, "mine")[1]
    assert info["classes"] == ["-- ü $(ls) 'x'", "bee", "cat"]
    assert info["train_count"] == len(TRAIN)


def test_links_to_images_and_classes_are_followed(folder, first, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    expected, _ = data.prepare(folder, "mine")
    bees = Path(folder["root"], "train/bee")
    bees.rename(elsewhere / "bees")
    bees.symlink_to(elsewhere / "bees")
    first.rename(elsewhere / "first")
    first.symlink_to(elsewhere / "first")
    found, _ = data.prepare(folder, "mine")
    assert torch.equal(found["train_images"], expected["train_images"])
    (elsewhere / "first").unlink()
    assert f"{str(first)!r} cannot be read" in refusal(folder)


def test_hidden_files_are_left_out(folder):
    root = Path(folder["root"])
    (root / "train/.ipynb_checkpoints").mkdir()
    for name in (".DS_Store", "cat/.DS_Store", "cat/._00.png", "cat/Thumbs.db", "desktop.ini"):
        (root / "train" / name).write_bytes(b"x")
    assert data.prepare(folder, "mine")[1]["train_count"] == len(TRAIN)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("train/bee/labels.csv", "is not an image by its name"),
        ("train/bee/video.gif", "is not an image by its name"),
        ("test/readme.png", "expected test/<class>/<image>, got the file"),
        ("train/bee/more/", "expected train/<class>/<image>, got the folder"),
    ],
)
def test_what_is_no_image_of_a_class_is_refused(path, words, folder):
    stray = Path(folder["root"], path)
    stray.mkdir() if path.endswith("/") else stray.write_bytes(b"x")
    message = refusal(folder)
    assert repr(str(stray)) in message
    assert words in message


def test_differing_sizes_name_the_first_two_files(folder, first):
    odd = Path(folder["root"], "train/bee/999.png")
    save(odd, np.zeros((6, 9, 3), np.uint8))
    assert f"{str(first)!r} (6x8) and {str(odd)!r} (6x9)" in refusal(folder)
    assert data.prepare({**folder, "image_size": 3}, "mine")[1]["shape"] == [3, 3, 3]


def test_differing_sizes_of_train_and_test_are_refused(folder, first):
    for path in Path(folder["root"], "test").glob("*/*"):
        save(path, np.zeros((4, 4, 3), np.uint8))
    message = refusal(folder)
    assert f"{str(first)!r} (6x8) and {str(min(Path(folder['root'], 'test/ape').iterdir()))!r} (4x4)" in message


@pytest.mark.parametrize(("part", "other"), [("train", "test"), ("test", "train")])
def test_a_class_without_images_or_folder_is_named(part, other, folder):
    cats = Path(folder["root"], part, "cat")
    for path in cats.iterdir():
        path.unlink()
    assert f"{str(cats)!r} has no images" in refusal(folder)
    cats.rmdir()
    assert "['cat'] in one of them alone" in refusal(folder)


def test_a_single_class_is_refused(folder):
    root = Path(folder["root"])
    for part in ("train", "test"):
        for name in ("bee", "cat"):
            (root / part / name).rename(root / f"{part}-{name}")
    assert "at least two classes, got only 'ape'" in refusal(folder)


def test_a_folder_without_classes_is_refused(folder):
    root = Path(folder["root"], "test")
    root.rename(root.with_name("away"))
    assert str(root) in refusal(folder)
    root.mkdir()
    assert f"{str(root)!r} has no folders" in refusal(folder)


def test_an_archive_in_place_of_a_folder_is_refused(tmp_path):
    archive = tmp_path / "images.tar"
    archive.write_bytes(b"")
    with pytest.raises(InputError, match=r"images.tar'"):
        image_folder.check({"root": str(archive)}, "mine")


def test_a_folder_below_home_is_found(folder, monkeypatch):
    monkeypatch.setenv("HOME", folder["root"])
    assert sum(map(len, image_folder.files({"root": "~"}, "train", "mine").values())) == len(TRAIN)


def test_images_of_one_value_are_refused(folder):
    for path in Path(folder["root"]).glob("*/*/*"):
        save(path, np.full((2, 2, 3), 7, np.uint8))
    assert "every training pixel of channel 0 is 7" in refusal(folder)


def test_more_images_than_memory_holds_are_refused(folder, monkeypatch):
    empty = np.empty

    def no_room(shape, dtype):
        if np.ndim(shape) and len(shape) == 4:
            raise MemoryError("no room")
        return empty(shape, dtype)

    monkeypatch.setattr(np, "empty", no_room)
    assert f"{len(TRAIN)} images of 3x6x8 do not fit in memory (MemoryError: no room)" in refusal(folder)
