"""Folders of images: read exactly and in one order; every mistake in them is one line that names the file."""

import contextlib
import io
import json
import os
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from written_sets import NAMES, channels_first, labels_of, make, pictures, refusal, rows, save, write_folders

from intrinsic_lr.commands import status
from intrinsic_lr.core import storage
from intrinsic_lr.data import dataset as data
from intrinsic_lr.data import image_folder
from intrinsic_lr.study import config_files
from intrinsic_lr.study.study import Study
from projects import new_project, overlay, planned, run

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


def png_of_16_bits(colour_type, channels):
    """Return a PNG file of 8x6 pixels with two bytes a channel, which Pillow cannot write."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 8, 6, 16, colour_type, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + bytes(range(16 * channels)) for _ in range(6)))
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def tiff_of(dtype):
    content = io.BytesIO()
    Image.fromarray(np.full((6, 8), 1, dtype)).save(content, format="TIFF")
    return content.getvalue()


DEEP = {
    "grey.png": png_of_16_bits(0, 1),
    "colour.png": png_of_16_bits(2, 3),
    "grey and alpha.png": png_of_16_bits(4, 2),
    "colour and alpha.png": png_of_16_bits(6, 4),
    "binary.ppm": b"P6 8 6 65535\n" + bytes(range(144)) * 2,
    "text.ppm": b"P3 8 6 256\n" + b"1 2 256\n" * 48,
    **{f"{dtype}.tif": tiff_of(dtype) for dtype in ("uint16", "int32", "float32")},
}


@pytest.mark.parametrize("name", DEEP)
def test_images_of_more_than_8_bits_are_refused_not_cut_off(name, folder, root):
    (root / "train/bee" / name).write_bytes(DEEP[name])
    message = refusal(folder)
    assert f"{str(root / 'train/bee' / name)!r} cannot be read" in message
    assert "more than 8 bits a channel" in message


# What is stored of an image that a viewer shows, by the orientation that EXIF names.
ORIENTATIONS = {
    1: lambda shown: shown,
    2: np.fliplr,
    3: lambda shown: np.rot90(shown, 2),
    4: np.flipud,
    5: lambda shown: shown.transpose(1, 0, 2),
    6: np.rot90,
    7: lambda shown: np.rot90(shown.transpose(1, 0, 2), 2),
    8: lambda shown: np.rot90(shown, -1),
}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_an_image_is_turned_as_a_viewer_shows_it(orientation, folder, first):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(ORIENTATIONS[orientation](COLOURS))).save(first, format="PNG", exif=exif)
    assert torch.equal(data.prepare(folder, "mine")[0]["train_images"][0], channels_first(COLOURS[None])[0])


@pytest.mark.parametrize("suffix", ["tif", "webp", "png"])
def test_an_image_of_several_frames_is_refused(suffix, folder, root):
    path = root / f"train/bee/frames.{suffix}"
    Image.fromarray(COLOURS).save(path, save_all=True, append_images=[Image.fromarray(COLOURS[::-1].copy())])
    assert f"{str(path)!r} cannot be read (ValueError: more than one frame" in refusal(folder)


def test_of_a_photograph_with_further_pictures_behind_it_the_one_shown_is_read(folder, first):
    behind = Image.fromarray(COLOURS[::-1].copy())
    Image.fromarray(np.full_like(COLOURS, 200)).save(first, format="MPO", save_all=True, append_images=[behind])
    assert (data.prepare(folder, "mine")[0]["train_images"][0] == 200).all()


@pytest.mark.parametrize("kind", ["folder", "torchvision"])
def test_postscript_named_as_an_image_starts_no_other_program(kind, folder, root, tmp_path, monkeypatch):
    """A program named `gs` on the PATH that leaves a trace."""
    spec = folder if kind == "folder" else make(tmp_path / "set", "Country211", monkeypatch)[0]
    path = min(Path(spec["root"]).rglob("*/ape/*"))
    Image.fromarray(COLOURS).save(path, format="EPS")
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)
    assert f"{str(path)!r} cannot be read" in refusal(spec)
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("made", [os.mkfifo, lambda path: path.symlink_to("nowhere")], ids=["pipe", "broken link"])
@pytest.mark.parametrize("kind", ["folder", "torchvision"])
def test_what_is_no_file_is_named_and_not_waited_for(kind, made, folder, tmp_path, monkeypatch):
    spec = folder if kind == "folder" else make(tmp_path / "set", "Country211", monkeypatch)[0]
    path = min(Path(spec["root"]).rglob("*/ape/*"))
    path.unlink()
    made(path)
    assert f"{str(path)!r} cannot be read" in refusal(spec)


def test_an_image_of_too_many_pixels_is_called_too_large(folder, first, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert f"{str(first)!r} is too large; expected at most 20 pixels" in refusal(folder)


def test_names_of_classes_in_another_unicode_form_are_the_same(folder, root):
    """macOS decomposes names, others keep what was typed; a viewer shows no difference."""
    (root / "train/cat").rename(root / "train/caf\u00e9")
    (root / "test/cat").rename(root / "test/cafe\u0301")
    assert data.prepare(folder, "mine")[1]["classes"] == ["ape", "bee", "caf\u00e9"]
    (root / "train/cafe\u0301").mkdir()
    assert "got the same name twice: " in refusal(folder)


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


def test_the_checksum_of_a_folder_follows_its_images_and_reads_only_what_changed(folder, root, first, monkeypatch):
    cache, read = root / "cache.json", []
    of_file = storage.sha256
    monkeypatch.setattr(storage, "sha256", lambda path: read.append(path) or of_file(path))

    def checksum():
        read.clear()
        return image_folder.content_sum(folder, "mine", cache)

    before = checksum()
    assert len(read) == len(TRAIN) + len(TEST)
    assert checksum() == before
    assert not read
    os.utime(first)
    assert checksum() == before
    assert read == [str(first)]
    content, times = first.read_bytes(), first.stat()
    first.write_bytes(content[:-1] + b"?")
    os.utime(first, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert checksum() != before, "of the same size and time"
    first.write_bytes(content)
    for part in ("train", "test"):
        (root / part / "ape").rename(root / part / "ant")
    assert checksum() != before, "of another class"
    for part in ("train", "test"):
        (root / part / "ant").rename(root / part / "ape")
    cache.write_text("{}}")
    assert checksum() == before


@pytest.mark.workflow
def test_a_changed_folder_is_prepared_and_trained_again_in_epochs_of_its_own(
    folder, root, tmp_path_factory, monkeypatch
):
    project = new_project(tmp_path_factory.mktemp("changed") / "project")
    monkeypatch.chdir(project)
    experiment = {
        "dataset": "mine", "model": "small", "batch_size": 4, "replicates": 2,
        "grid": {"lr": 0.1, "weight_decay": 0.1}, "length": {"epochs": 2}, "checkpoints": {"epochs": [2]},
        "analyses": ["curves"],
    }  # fmt: skip
    config = overlay(
        project, run=["mine"], judge=[], experiments={"mine": experiment}, datasets={"mine": folder}, analysis={},
        models={"small": {"kind": "mlp", "width": 16, "depth": 2}}, schedules={}, claims={},
    )  # fmt: skip

    def due():
        rules = planned(project, "tables", config=config)
        study = Study.read(config_files.merge_files([project / config]), project / "results")
        waiting = [job.state.name for job in status.look_at_trainings(study, 0).values()] == ["WAITING"]
        return [rules.get(rule, 0) for rule in ("prepare_data", "train", "curves")], waiting

    run(project, "tables", config=config)
    for path in root.glob("*/*/*"):
        os.utime(path)
    assert due() == ([0, 0, 0], False)
    save(min(root.glob("test/*/*")), np.zeros((6, 8, 3), np.uint8))
    assert due() == ([1, 1, 1], True)
    for path in list(root.glob("train/*/*")):
        shutil.copy(path, path.with_stem(f"{path.stem} again"))
    run(project, "tables", config=config)
    (record,) = project.glob("results/runs/*/block_0000/run.json")
    assert json.loads(record.read_text())["steps"] == 2 * (2 * len(TRAIN) // 4)
    assert due() == ([0, 0, 0], False)
