"""What a run prints: how far it is and the time left, from the events that Snakemake logs, and the verdicts."""

import io
import logging

import pytest

from intrinsic_lr.commands import run_output
from intrinsic_lr.commands.run_output import RunProgress, Work, verdicts

JOBS = {
    1: Work("train a", "mlp", 100),
    2: Work("train b", "mlp", 300),
    3: Work("claim x", "claim", 1),
    4: Work("claim y", "claim", 1),
}


class Clock:
    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(run_output.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def event(logger, name, **fields):
    logger.info(name, extra={"event": name, **fields})


@pytest.fixture
def logger():
    made = logging.Logger("workflow", logging.INFO)
    shown = io.StringIO()
    made.addHandler(logging.StreamHandler(shown))
    return made, shown


def test_seconds_left_follow_the_amount_of_work(clock):
    progress = RunProgress(JOBS, 1, io.StringIO())
    made = logging.Logger("workflow", logging.INFO)
    made.addHandler(progress)
    assert progress.seconds_left(0.0) is None
    event(made, "job_started", jobs=[1])
    clock.now = 10.0
    event(made, "job_finished", job_id=1)
    # The other training has three times the steps; a claim is expected to take as long as the mean job.
    assert progress.seconds_left(clock.now) == 30 + 2 * 10
    event(made, "job_started", jobs=[3])
    clock.now = 12.0
    event(made, "job_finished", job_id=3)
    event(made, "job_started", jobs=[2])
    clock.now = 20.0
    assert progress.seconds_left(clock.now) == (30 - 8) + 2
    assert RunProgress(JOBS, 2, io.StringIO()).seconds_left(0.0) is None


def test_the_line_stands_for_what_is_printed_of_jobs(clock, logger):
    made, shown = logger
    line = io.StringIO()
    run_output.follow(made, JOBS, 2, line)
    event(made, "job_info", jobid=1)
    event(made, "job_started", jobs=[1, 2])
    clock.now = 60.0
    event(made, "job_finished", job_id=1)
    event(made, "job_error", jobid=2)
    made.info("a message")
    assert shown.getvalue() == "job_error\na message\n"
    assert line.getvalue().startswith("1 of 4 jobs done in 60 seconds; about ")
    assert "running: train b" in line.getvalue()


def test_the_table_of_verdicts(tmp_path):
    claims, controls = tmp_path / "claims.csv", tmp_path / "controls.csv"
    claims.write_text(
        "claim,verdict,estimate,ci_low,ci_high,null_or_threshold\n"
        "swa_within,reproduced,0.51234,0.4,0.6,>= 0.1\ngd_toy,inconclusive,,,,>= 0.99\n"
    )
    controls.write_text("claim,verdict\nswa_within,rejected\nswa_within,rejected\n")
    _, first, second, last = verdicts(claims, controls)
    assert first.split() == ["swa_within", "reproduced", "0.512", "[0.4,", "0.6]", ">=", "0.1"]
    assert second.split() == ["gd_toy", "inconclusive", "-", ">=", "0.99"]
    assert last == "2 claims: 1 reproduced, 1 inconclusive; 2 controls: 2 rejected"
