"""Every kind of file, damaged in every way: its reader names it in one line, with the command that repairs it."""

import json
import os
import random
import re
import shutil

import pytest
import torch

from intrinsic_lr.commands import extract, train
from intrinsic_lr.core import block_files as runs
from intrinsic_lr.core import storage
from intrinsic_lr.core.block_files import step_file
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.data import prepared
from intrinsic_lr.data.dataset import load
from intrinsic_lr.runs.ensembles import open_ensemble
from intrinsic_lr.training.resume import STATE
from plans import extract_words, plan, train_words, write_noise

STEPS, FLIPS = 7, 24
STRIDE = 5
"""Bytes of a JSON file from one that is changed to the next."""
BLOCKS = ("runs/p/block_0000", "runs/p/block_0001")
STOPPED = ("stopped/p/block_0000", "stopped/p/block_0001")


def files(study):
    return study / "data/d.safetensors", study / "data/d.json"


def command(study, folder, first):
    """Return the words that train a block of two replicates."""
    planned = plan(model={"kind": "mlp", "width": 4}, checkpoints=(0, 4, STEPS), replicates=(first, first + 2))
    return train_words(planned, files(study), study / folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Two data sets, two blocks trained and extracted, and two that were stopped after their first checkpoint."""
    study = tmp_path_factory.mktemp("study")
    for seed, name in enumerate("de"):
        write_noise(study / "data", name, seed, (13, 11))
    for number, folder in enumerate(BLOCKS):
        train.main(command(study, folder, 2 * number))
        extract.main(extract_words(files(study), study / folder))
    for number, folder in enumerate(STOPPED):
        for _ in range(3):
            with pytest.raises(SystemExit):
                train.main([*command(study, folder, 2 * number), "--stop-after", "0"])
    return study


@pytest.fixture
def study(whole, tmp_path):
    """A copy of them, to be damaged by a test."""
    return shutil.copytree(whole, tmp_path / "study")


def ensemble(study):
    return open_ensemble([study / folder for folder in BLOCKS], 4)


def read_data(study):
    load(*files(study), "cpu", torch.float32)


def read_labels(study):
    prepared.true_labels(*files(study))


def go_on(study):
    train.main(command(study, STOPPED[0], 0))


# For each kind of file: where it lies, where another of its kind does, and a reader of it.
KINDS = {
    "checkpoints": (step_file(runs.CHECKPOINTS, STEPS), lambda study: ensemble(study).weights(STEPS)),
    "history": (runs.HISTORY, lambda study: ensemble(study).history()),
    "trace": (runs.TRACE, lambda study: ensemble(study).trace()),
    "predictions": (step_file(runs.PREDICTIONS, STEPS), lambda study: ensemble(study).predictions(STEPS)),
    "labels": (step_file(runs.PREDICTIONS, STEPS), lambda study: ensemble(study).labels(STEPS)),
    "statistics": (step_file(runs.STATISTICS, STEPS), lambda study: ensemble(study).member(STEPS, 0)),
    "run.json": (runs.RUN, lambda study: ensemble(study).history()),
    "extract.json": (runs.EXTRACT, lambda study: ensemble(study).labels(STEPS)),
    "data": (".safetensors", read_data),
    "true labels": (".safetensors", read_labels),
    "description": (".json", read_data),
    "description for labels": (".json", read_labels),
    "resume state": (STATE, go_on),
    "checkpoints of a stopped run": (f"{runs.RESUME}/{step_file(runs.CHECKPOINTS, 0)}", go_on),
}


def place(study, kind, number):
    """Return the file of a kind: the one to damage (0), or the other one of its kind (1)."""
    name, reader = KINDS[kind]
    if reader in (read_data, read_labels):
        return study / f"data/{'de'[number]}{name}"
    if reader is go_on:
        return study / STOPPED[number] / name
    return study / BLOCKS[number] / name


def flipped(content, generator, index):
    """Return the content with one bit of a byte flipped."""
    changed = bytearray(content)
    changed[index] ^= 1 << generator.randrange(8)
    return bytes(changed)


def refused(read, study, path):
    """Read, and return whether the one line of a refusal names the file and its repair."""
    with pytest.raises(InputError) as caught:
        read(study)
    line = str(caught.value)
    assert "\n" not in line
    # A description and its data file are one pair: of two that do not fit, the data file is named.
    assert path.name in line or (path.suffix == ".json" and path.with_suffix(".safetensors").name in line), line
    assert re.search(r"`(intrinsic-lr snakemake --cores all --force|rm) .*`", line), line


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["truncated", "emptied", "swapped"])
def test_damage_is_named(study, kind, way):
    path, other = place(study, kind, 0), place(study, kind, 1)
    content = path.read_bytes()
    damaged = {"truncated": content[: len(content) // 2], "emptied": b"", "swapped": other.read_bytes()}[way]
    assert damaged != content
    path.write_bytes(damaged)
    if (kind, way) == ("resume state", "swapped"):
        # A state says whose it is: that of another training is left alone, and training begins anew.
        go_on(study)
        assert (study / STOPPED[0] / runs.HISTORY).read_bytes() == (study / BLOCKS[0] / runs.HISTORY).read_bytes()
        return
    refused(KINDS[kind][1], study, path)


@pytest.mark.parametrize("kind", [kind for kind, (name, _) in KINDS.items() if not name.endswith("json")])
def test_every_flipped_bit_is_named(study, kind):
    path, read, generator = place(study, kind, 0), KINDS[kind][1], random.Random(kind)
    content = path.read_bytes()
    for _ in range(FLIPS):
        path.write_bytes(flipped(content, generator, generator.randrange(len(content))))
        refused(read, study, path)


@pytest.mark.parametrize("kind", [kind for kind, (name, _) in KINDS.items() if name.endswith("json")])
def test_a_flipped_bit_of_json_is_named_or_means_nothing(study, kind):
    """The bit may turn white space into other white space, or the name of the checksum into another."""
    path, generator = place(study, kind, 0), random.Random(kind)
    content, stated = path.read_bytes(), storage.read_json(path)
    for index in range(0, len(content), STRIDE):
        path.write_bytes(flipped(content, generator, index))
        found, line = {}, ""
        try:
            found = storage.read_json(path)
        except InputError as error:
            line = str(error)
        assert "\n" not in line
        assert path.name in line if line else {key: found[key] for key in stated} == stated


FORMS = {
    "empty": b"{}",
    "list": b"[]",
    "nested": b"[" * 200_000,
    "no UTF-8": b'{"a": "\xff"}',
    "no checksum": None,
}


@pytest.mark.parametrize("kind", [kind for kind, (name, _) in KINDS.items() if name.endswith("json")])
@pytest.mark.parametrize("form", FORMS)
def test_json_of_another_form_is_named(study, kind, form):
    path = place(study, kind, 0)
    without = json.dumps(storage.read_json(path)).encode()
    path.write_bytes(FORMS[form] or without)
    refused(KINDS[kind][1], study, path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_pipe_in_place_of_a_file_is_named_and_not_waited_for(study, kind):
    path = place(study, kind, 0)
    path.unlink()
    os.mkfifo(path)
    refused(KINDS[kind][1], study, path)


@pytest.mark.parametrize("kind", ["run.json", "extract.json", "description"])
@pytest.mark.parametrize("value", [None, [], "text", {"a": 1}])
def test_the_form_of_a_record_is_checked_before_its_meaning(study, kind, value):
    """Of one whose checksum is right; each entry that a reader needs is missing (None) or something else."""
    path, read = place(study, kind, 0), KINDS[kind][1]
    stated = storage.read_json(path)
    needed = {"run.json": ("plan", "data", "sha256"), "extract.json": ("checkpoints", "sha256")}
    for key in needed.get(kind, ("classes", "sha256", "mean", "std")):
        changed = {**stated, key: value}
        storage.write_json(path, {name: entry for name, entry in changed.items() if entry is not None})
        refused(read, study, path)


def test_a_block_of_another_training_is_not_averaged_in(study):
    """Each by its own is whole; the seed of the study, where it is known, has to be that of both."""
    other = plan(model={"kind": "mlp", "width": 4}, checkpoints=(0, 4, STEPS), replicates=(2, 4), seed=1)
    train.main(train_words(other, files(study), study / BLOCKS[1]))
    refused(lambda study: ensemble(study), study, study / BLOCKS[1] / runs.RUN)
    folders = [study / BLOCKS[0]]
    assert open_ensemble(folders, 2, seed=0).replicates == 2
    with pytest.raises(InputError, match=r"block_0000/run\.json: trained with seed 0, expected 1; repair with"):
        open_ensemble(folders, 2, seed=1)


def test_nothing_of_a_damaged_block_is_averaged_in(study):
    """The good block of an ensemble is not returned alone."""
    (study / BLOCKS[1] / runs.HISTORY).write_bytes(b"")
    with pytest.raises(InputError, match=r"block_0001/history\.parquet"):
        ensemble(study).history()
