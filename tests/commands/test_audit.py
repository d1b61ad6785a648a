"""The audit of a results folder: clean as it was made, and every defect named with what repairs it."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from intrinsic_lr.commands import audit
from intrinsic_lr.core.storage import read_json, sha256, write_json
from intrinsic_lr.study.config_files import merge_files
from intrinsic_lr.study.study import Study
from projects import REPOSITORY, environment_of, experiments, overlay, run

pytestmark = pytest.mark.workflow

CONFIG = [REPOSITORY / "config/smoke.yaml"]
CLEAN = "0 stale, 0 missing, 0 damaged, 0 foreign"
MIXING = "results/runs/digits_300-small-b20-lr0.1-wd0.2{}-shared/block_0000/"
FIRST, SECOND = MIXING.format(""), MIXING.format("-init1")
TABLE = "results/smoke/tables/grid_smoke_grid.csv"


@pytest.fixture(scope="module")
def asked(finished):
    """What Snakemake says of the finished results."""
    return audit.summary(CONFIG, finished)


@pytest.fixture(scope="module")
def study():
    return Study.read(merge_files(CONFIG))


def command(project, config="config/smoke.yaml"):
    """Run the audit in a project as its user does; return its exit status and its lines."""
    words = [sys.executable, "-m", "intrinsic_lr.commands", "audit", "--config", config]
    done = subprocess.run(
        words, cwd=project, env=environment_of(project), capture_output=True, text=True, timeout=120
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout.splitlines()


def test_results_are_clean_as_they_were_made(finished, asked):
    status, lines = command(finished)
    assert lines == [f"{len(asked)} results of the config: {CLEAN}"]
    assert status == 0
    assert set(asked.values()) == {""}


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def cut(file):
    file.write_bytes(file.read_bytes()[:-10])


def empty(file):
    file.write_bytes(b"")


def swap(a, b):
    content = a.read_bytes()
    a.write_bytes(b.read_bytes())
    b.write_bytes(content)


def touch(*files):
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.touch()


DAMAGES = {
    "files": [
        (cut, f"{FIRST}checkpoints/00000050.safetensors"),
        (flip, f"{FIRST}history.parquet"),
        (flip, f"{FIRST}predictions/00000050.safetensors"),
        (flip, "results/data/digits_300.safetensors"),
        (flip, "results/smoke/figures/gd_toy.png"),
        (flip, "results/smoke/claims.csv"),
        (empty, TABLE),
    ],
    "records": [(flip, f"{FIRST}run.json"), (cut, f"{SECOND}run.json")],
    "swapped": [(swap, f"{FIRST}history.parquet", f"{SECOND}history.parquet")],
    "swapped records": [(swap, f"{FIRST}run.json", f"{SECOND}run.json")],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damaged_file_is_named(project, asked, study, damage):
    repairs = {}
    for do, *paths in DAMAGES[damage]:
        do(*(project / path for path in paths))
        repairs |= {path: str(Path(path).parent) if "/00000050" in path else path for path in paths}
    *faults, counts = audit.audit(study, asked, project, CONFIG)
    assert sorted(faults) == [
        f"{path}: damaged, its checksum is not the recorded one; repair with "
        f"`intrinsic-lr snakemake --cores all --force {repairs[path]} --configfile {CONFIG[0]}`"
        for path in sorted(repairs)
    ]
    assert counts.endswith(f"0 stale, 0 missing, {len(repairs)} damaged, 0 foreign")


def test_every_foreign_file_is_named(project, asked, study):
    """Of the user's, of nobody, of a killed job, and the state of a training that is finished."""
    names = ["notes.txt", "tables/a b.csv"]
    paths = sorted([*(f"results/{name}" for name in names), f"{FIRST}.run.json.x.1.0.tmp", f"{FIRST}resume/state"])
    touch(*(project / path for path in paths))
    *faults, counts = audit.audit(study, asked, project, CONFIG)
    what = "foreign, no job of the workflow wrote it; repair with"
    assert sorted(faults) == [f"{path}: {what} `rm {shlex.quote(path)}`" for path in paths]
    assert counts.endswith("0 stale, 0 missing, 0 damaged, 4 foreign")


def test_a_name_forges_no_line_and_a_pipe_is_not_waited_for(tmp_path, monkeypatch, capsys):
    touch(tmp_path / "results/\x1b[31m\n5 results of the config: all clean")
    os.mkfifo(tmp_path / "results/pipe")
    (tmp_path / "results/logs").mkdir()
    (tmp_path / "results/logs/job.log").write_text(f"wrote results/pipe sha256 {'0' * 64}\n")
    os.mkfifo(tmp_path / "results/logs/pipe.log")
    monkeypatch.setattr(audit, "summary", lambda *_: {})
    with pytest.raises(SystemExit):
        audit.main(["--config", *map(str, CONFIG), "--directory", str(tmp_path)])
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert r"results/\x1b[31m\n5 results of the config: all clean: foreign" in shown
    assert "0 results of the config: 0 stale" in shown.splitlines()[-1]


def rewrite(project, path, **changes):
    """Change a JSON file and the record of its checksum; keys are joined by two underscores."""
    content = read_json(project / path)
    for keys, value in changes.items():
        *above, last = keys.split("__")
        inner = content
        for key in above:
            inner = inner[key]
        inner[last] = value
    write_json(project / path, content)
    known = re.compile(rf"^wrote {re.escape(path)} sha256 \w+$", re.MULTILINE)
    (log,) = (log for log in project.glob("results/**/*.log") if known.search(log.read_text()))
    log.write_text(known.sub(f"wrote {path} sha256 {sha256(project / path)}", log.read_text()))


def test_what_does_not_fit_the_config_is_named(project, asked, study):
    trajectory, *grid = (
        f"{path.parent.relative_to(project)}/"
        for name in ("small-b20-lr0.1-wd0.2", "small_cnn-*wd0.01-*", "small_cnn-*wd0.1-*")
        for path in project.glob(f"results/runs/digits_300-{name}/*/run.json")
    )
    (project / "results/smoke/logs/grid/smoke_grid.log").unlink()
    (project / FIRST / "checkpoints/00000050.safetensors").unlink()
    rewrite(project, f"{SECOND}run.json", plan__seed=7)
    rewrite(project, f"{grid[0]}run.json", data__sha256="0")
    rewrite(project, f"{grid[1]}run.json", plan=None)
    rewrite(project, f"{trajectory}extract.json", checkpoints={})
    expected = {
        TABLE: "no log records its checksum",
        f"{FIRST}run.json": "checkpoints/00000050.safetensors, whose checksum it carries, is missing",
        f"{SECOND}run.json": "seed is 7, the config asks for the default",
        f"{grid[0]}run.json": "trained on other data than those that are there",
        f"{grid[1]}run.json": "it cannot be read (unsupported operand type(s) for |: 'dict' and 'NoneType')",
        f"{trajectory}extract.json": "made from other checkpoints than those of run.json",
    }
    *faults, _ = audit.audit(study, asked, project)
    assert sorted(faults) == [
        f"{path}: damaged, {what}; repair with `intrinsic-lr snakemake --cores all --force {path}`"
        for path, what in sorted(expected.items())
    ]


def test_what_a_stopped_training_goes_on_from_is_no_foreign_file(project, asked, study):
    touch(project / FIRST / "resume/state", project / FIRST / ".history.parquet.x.1.0.tmp")
    (project / FIRST / "run.json").unlink()
    later = {**asked, f"{FIRST}run.json": "missing"}
    fault, _ = audit.audit(study, later, project, CONFIG)
    assert fault.startswith(f"{FIRST}run.json: missing")


def test_missing_and_stale_files_are_named_and_made_again(project):
    """A deleted table, and a training that was done again since with another outcome."""
    (project / TABLE).unlink()
    rewrite(project, f"{FIRST}run.json", wall_seconds=1.5)
    status, lines = command(project)
    assert status == 1
    assert lines[-1].endswith(" stale, 1 missing, 0 damaged, 0 foreign")
    faults = {line.split(":")[0]: line for line in lines[:-1]}
    repair = "repair with `intrinsic-lr snakemake --cores all {} --configfile config/smoke.yaml`"
    assert faults[TABLE] == f"{TABLE}: missing, the config asks for it; {repair.format(TABLE)}"
    stale = f"{FIRST}extract.json"
    assert faults[stale] == f"{stale}: stale, older than what it is made from; {repair.format(stale)}"
    assert "made again" in faults["results/smoke/figures/disagreement_smoke_mixing.svg"]
    assert not [path for path in faults if "trajectory" in path]
    run(project)
    status, (line,) = command(project)
    assert (status, line.endswith(CLEAN)) == (0, True)


def test_another_config_asks_for_other_results(project):
    """More replicates of one experiment, and another one left out: its results are no foreign files."""
    settings = experiments(smoke_mixing={"replicates": 8})
    name = overlay(project, experiments=settings, run=["smoke_mixing"], judge=["gd_toy"])
    status, lines = command(project, config=name)
    assert status == 1
    assert re.search(r"[1-9]\d* stale, [1-9]\d* missing, 0 damaged, 0 foreign; \d+ files that another", lines[-1])
    missing = [line for line in lines if ": missing" in line]
    assert any("block_0001/run.json" in line for line in missing)
    assert any("disagreement_smoke_mixing.csv: stale, made from other files" in line for line in lines), lines


def test_a_run_at_work_is_left_alone(finished, monkeypatch, capsys):
    monkeypatch.setattr(audit, "is_running", lambda folder: True)
    with pytest.raises(audit.InputError, match="a run is at work"):
        audit.main(["--directory", str(finished)])
