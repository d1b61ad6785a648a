"""Kills at random moments of a study: `make results` goes on, and its tables are those of an undisturbed run."""

import hashlib
import itertools
import os
import random
import signal
import time
from collections import Counter

import psutil
import pytest

from projects import install_make, new_project, overlay, start_make, tables

pytestmark = [pytest.mark.workflow, pytest.mark.long]

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
TARGETS = ("training", "analysis", "snakemake")
ATTACKS = [(target, number) for number, target in itertools.product(SIGNALS, TARGETS)]
"""Neighbours differ in what they hit, so that a few of them hit everything."""
LONGEST_DELAY = {"training": 4.0, "analysis": 4.0, "snakemake": 8.0}
"""Seconds from the start of a process to a kill of it, at most: about as long as it lives."""
FEW = 9
"""Kills up to which a part of the smoke study is taken."""
SETTLED_SECONDS = 30.0
"""How long an orphan may take to end."""


def kind(process):
    """Return what a process of a workflow is, by its command line: one of `TARGETS`, or None."""
    try:
        words = process.cmdline()
    except psutil.Error:
        return None
    text = " ".join(words)
    command = words[2] if len(words) > 2 and words[1].endswith("/intrinsic-lr") else None
    if command == "train":
        return "training"
    if command == "extract" or "/.snakemake/scripts/" in text:
        return "analysis"
    is_snakemake = words and "python" in words[0] and "snakemake" in text and "--cores" in words
    return "snakemake" if is_snakemake and "--target-jobs" not in words else None


def found(make, target):
    """Return the processes of a kind below a running `make`."""
    try:
        below = psutil.Process(make.pid).children(recursive=True)
    except psutil.Error:
        return []
    return [process for process in below if kind(process) == target]


def attack(make, target, number, generator):
    """Wait for a target and hit it after a random time; tell whether there was one before `make` ended."""
    while make.poll() is None:
        if not found(make, target):
            time.sleep(0.02)
            continue
        time.sleep(generator.uniform(0, LONGEST_DELAY[target]))
        alive = found(make, target)
        if not alive:
            continue
        try:
            if number == signal.SIGINT:
                # Ctrl-C on a terminal reaches every process of the foreground group.
                os.killpg(make.pid, number)
            else:
                generator.choice(alive).send_signal(number)
        except psutil.NoSuchProcess:
            continue
        return True
    return False


def at_work(project):
    """Return the command lines of the processes that work in a project."""
    lines = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(project) and process.status() != psutil.STATUS_ZOMBIE:
                lines.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return lines


def left_over(project):
    """Return what only a run that is at work or was stopped has: states, half files, locks, unfinished jobs."""
    results = [path for pattern in ("*.tmp", "resume") for path in (project / "results").rglob(pattern)]
    held = [path for name in ("locks", "incomplete") for path in (project / ".snakemake" / name).glob("*")]
    return [str(path.relative_to(project)) for path in results + held]


def arrays(project):
    """Return the checksums of all that trainings and extractions wrote but their records, which have times."""
    return {
        str(path.relative_to(project)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (project / "results/runs").rglob("*")
        if path.suffix in (".safetensors", ".parquet")
    }


class Study:
    """A study that is killed, started again, compared with an undisturbed one that it is a part of, begun anew."""

    def __init__(self, project, config, undisturbed):
        self.project, self.config = project, config
        self.expected = tables(undisturbed), arrays(undisturbed)
        self.starts = self.compared = 0
        self.different = []
        self.output = project / "make.log"

    def start(self):
        self.starts += 1
        return start_make(self.project, self.output, config=self.config)

    def finish(self, make):
        """Start again, by the same command and nothing else, until a start ends well; then compare."""
        failures = 0
        while make.wait(timeout=1800) != 0:
            failures += 1
            assert failures < 4, self.output.read_text()[-6000:]
            make = self.start()
        self._compare()

    def _compare(self):
        for what, wanted in zip((tables, arrays), self.expected, strict=True):
            made = what(self.project)
            assert made, "nothing was made"
            self.compared += len(made)
            self.different += [name for name in made if made[name] != wanted[name]]
        end = time.monotonic() + SETTLED_SECONDS
        while (busy := at_work(self.project)) and time.monotonic() < end:
            time.sleep(0.1)
        assert not busy
        assert left_over(self.project) == []


def test_kills_at_random_moments(finished, tmp_path, pytestconfig, capsys):
    kills = pytestconfig.getoption("--kills")
    generator = random.Random(pytestconfig.getoption("--kill-seed"))
    project = install_make(new_project(tmp_path / "project"))
    part = {"run": ["smoke_grid"], "judge": ["gd_toy"]}
    config = "config/smoke.yaml" if kills > FEW else overlay(project, **part)
    study, done = Study(project, config, finished), Counter()
    make = study.start()
    for target, number in itertools.islice(itertools.cycle(ATTACKS), kills):
        while not attack(make, target, number, generator):
            # The study came to its end, or was given up after earlier hits, before there was such a target.
            if make.poll() == 0:
                study.finish(make)
                for name in ("results", ".snakemake"):
                    os.rename(project / name, project / f"{name}.{study.starts}")
            make = study.start()
        done[target, number] += 1
        if target == "snakemake" or number == signal.SIGINT:
            make.wait(timeout=1800)
            make = study.start()
    study.finish(make)
    with capsys.disabled():
        hits = ", ".join(f"{target} {number.name} {times}" for (target, number), times in done.items())
        print(f"\nkills: {hits}; {study.starts} starts, {study.compared} files compared")
    assert study.different == []
