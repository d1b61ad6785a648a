"""What a run of the workflow prints: a line on how far it is, with the time left, and at its end the verdicts."""

import csv
import logging
import sys
import time
from collections import Counter
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import NamedTuple, TextIO

from intrinsic_lr.commands.budget import wall_seconds
from intrinsic_lr.core.disk import format_duration

LINE_SECONDS = 10.0
"""Between two lines where the output is no terminal, on which the line is overwritten."""
HIDDEN = ("job_info", "job_started", "job_finished", "group_info", "progress", "shellcmd")
"""Events that Snakemake prints a text for, several of them for each job."""
SELECTING = "Select jobs to execute..."


class Work(NamedTuple):
    """A job: its rule and what it makes, and how much of which kind of work it is (member-steps, or 1 job)."""

    title: str
    kind: Hashable
    amount: float


def follow(logger: logging.Logger, jobs: Mapping[int, Work], slots: int, stream: TextIO = sys.stderr) -> None:
    """Let a line on the progress stand for what Snakemake prints of each job; its log file keeps that.

    Args:
        logger: Snakemake's, whose records name their `event`.
        jobs: the jobs that are to run, by their number.
        slots: how many of them run at a time.
        stream: where the line is written.
    """
    for handler in logger.handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.addFilter(lambda record: _event(record) not in HIDDEN and record.msg != SELECTING)
    logger.addHandler(RunProgress(jobs, slots, stream))


def _event(record: logging.LogRecord) -> str | None:
    return getattr(record, "event", None)


class RunProgress(logging.Handler):
    """Counts the jobs that Snakemake reports as started and finished, and estimates the time left from them."""

    def __init__(self, jobs: Mapping[int, Work], slots: int, stream: TextIO) -> None:
        super().__init__(logging.INFO)
        self._jobs, self._slots, self._stream = jobs, slots, stream
        self._terminal = stream.isatty()
        self._started: dict[int, float] = {}
        self._finished: dict[int, float] = {}
        self._begin, self._shown = time.monotonic(), 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """Take note of an event, and write the line when it is due."""
        event, now = _event(record), time.monotonic()
        if event == "job_started":
            self._started |= dict.fromkeys(record.jobs, now)
        elif event == "job_finished" and record.job_id in self._started:
            self._finished[record.job_id] = now - self._started.pop(record.job_id)
        elif event == "job_error":
            self._started.pop(record.jobid, None)
        else:
            return
        last = len(self._finished) == len(self._jobs)
        if self._terminal or last or now - self._shown >= LINE_SECONDS:
            self._shown = now
            line = self.line(now)
            self._stream.write(f"\r\x1b[K{line}{chr(10) if last else ''}" if self._terminal else f"{line}\n")
            self._stream.flush()

    def line(self, now: float) -> str:
        """Return how far the run is at a time of the monotonic clock, in seconds."""
        left = self.seconds_left(now)
        parts = [f"{len(self._finished)} of {len(self._jobs)} jobs done in {format_duration(now - self._begin)}"]
        if left:
            parts.append(f"about {format_duration(left)} left")
        if running := [self._jobs[number].title for number in self._started if number in self._jobs]:
            more = f" and {len(running) - 2} more" if len(running) > 2 else ""
            parts.append(f"running: {', '.join(running[:2])}{more}")
        return "; ".join(parts)

    def seconds_left(self, now: float) -> float | None:
        """Return the seconds until all jobs are done, or None before the first is.

        A job takes as long for its amount of work as those of its kind have taken so far, or as long as the mean
        of all jobs where none of its kind is done.
        """
        if not self._finished:
            return None
        seconds, amounts = Counter(), Counter()
        for number, duration in self._finished.items():
            if number in self._jobs:
                seconds[self._jobs[number].kind] += duration
                amounts[self._jobs[number].kind] += self._jobs[number].amount
        mean = sum(self._finished.values()) / len(self._finished)
        left = []
        for number, work in self._jobs.items():
            if number not in self._finished:
                known = amounts[work.kind]
                expected = seconds[work.kind] / known * work.amount if known else mean
                left.append(max(0.0, expected - (now - self._started.get(number, now))))
        return wall_seconds(left, self._slots)


def verdicts(scorecard: Path, controls: Path) -> list[str]:
    """Return the lines of the table of verdicts, and their counts."""
    claims = _rows(scorecard)
    lines = [_line("claim", "verdict", "estimate", "interval", "allowed")]
    lines += [
        _line(row["claim"], row["verdict"], _number(row["estimate"]), _interval(row), row["null_or_threshold"])
        for row in claims
    ]
    return [*lines, f"{_counted('claims', claims)}; {_counted('controls', _rows(controls))}"]


def _counted(what: str, rows: list[dict[str, str]]) -> str:
    counts = Counter(row["verdict"] for row in rows)
    return f"{len(rows)} {what}: {', '.join(f'{count} {verdict}' for verdict, count in counts.items())}"


def _rows(file: Path) -> list[dict[str, str]]:
    with open(file, newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def _number(text: str) -> str:
    return f"{float(text):.3g}" if text else "-"


def _interval(row: Mapping[str, str]) -> str:
    return f"[{_number(row['ci_low'])}, {_number(row['ci_high'])}]" if row["ci_low"] else ""


def _line(claim: str, verdict: str, estimate: str, interval: str, allowed: str) -> str:
    return f"{claim:30}{verdict:16}{estimate:>10} {interval:24}{allowed}".rstrip()
