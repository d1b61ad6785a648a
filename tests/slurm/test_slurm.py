"""The smoke workflow through Slurm, with jobs and nodes lost in the middle, gives the bytes of a local run.

Run by `make test-slurm`, as root, on a machine with Slurm's programs; see docs/cluster.md.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cluster import Cluster, processes, wait_for

from projects import environment_of, new_project

pytestmark = pytest.mark.slurm

PATIENCE = 3600.0
CONFIGS = ["config/smoke.yaml", str(Path(__file__).with_name("longer.yaml"))]
TARGETS = ["tables", "results/smoke/claims.csv", "results/smoke/controls.csv"]
SETTINGS = {"partition": "cpu", "gpu_partition": "gpu"}
BLOCK = "results/runs/digits_300-{}/block_0000"
CANCELLED, OVER_TIME, KILLED, POWERLESS, DETACHED = (
    "small-b20-lr0.1-wd0.2",
    "small-b20-lr0.1-wd0.2-shared",
    "small-b20-lr0.1-wd0.2-init1-shared",
    "small_cnn-b20-lr0.1-wd0.01-schedule_late_decay",
    "small_cnn-b20-lr0.1-wd0.1-schedule_late_decay",
)


def snakemake(project, *arguments):
    """Start Snakemake in a project; its output goes to `project/output`."""
    command = [sys.executable, "-m", "snakemake", *TARGETS, *arguments, "--configfile", *CONFIGS]
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    variables["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{variables['PATH']}"
    with open(project / "output", "w") as output:
        return subprocess.Popen(command, cwd=project, env=variables, stdout=output, stderr=subprocess.STDOUT)


def status(project):
    """Return what a second terminal is told of all trainings: done, running, waiting, stopped, killed, failed."""
    command = [sys.executable, "-m", "intrinsic_lr.commands", "status", "--config", *CONFIGS]
    options = {"cwd": project, "env": environment_of(project), "capture_output": True}
    done = subprocess.run(command, **options, text=True, check=True)
    (line,) = re.findall(r"^all, shared ones once +(.*)$", done.stdout, re.MULTILINE)
    return line.split()[:6]


def tables(project):
    return {path.name: path.read_bytes() for path in sorted(project.glob("results/**/*.csv"))}


class Training:
    """The training of a point in a project on a cluster, caught in the middle: with its state saved, and held."""

    def __init__(self, project, cluster, point, run):
        self.cluster, self.point = cluster, point
        saved = project / BLOCK.format(point) / "resume" / "state"
        wait_for(lambda: is_under_way(saved) or run.poll() is not None, f"{saved}", PATIENCE)
        (self.process,) = [
            number
            for number, command, _ in processes()
            if command[2:3] == ["train"] and f'"point":"digits_300-{point}"' in " ".join(command)
        ]
        self.send(signal.SIGSTOP)
        (self.job,) = jobs_of(cluster.jobs(), point)
        self.status = status(project)

    def send(self, number):
        os.kill(self.process, number)

    def was_told_to_stop(self):
        """Tell whether SIGTERM waits for the held process to go on, or has already ended it."""
        try:
            status = Path(f"/proc/{self.process}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return True
        pending = int(re.search(r"ShdPnd:\s*(\w+)", status)[1], 16)
        return bool(pending >> (signal.SIGTERM - 1) & 1)


def is_under_way(state):
    """Tell whether a training has saved its state, and not only that of its beginning."""
    return state.exists() and re.search(rb'\\"step\\": [1-9]', state.read_bytes()) is not None


def jobs_of(jobs, point):
    """Return the jobs of a point's training."""
    return [job for job in jobs if f"/rule_train/digits_300-{point}_0000/" in job["StdOut"]]


def cancel(training):
    subprocess.run(["scancel", training.job["JobId"]], check=True)


def end_its_time(training):
    """Leave it a minute, which is less than the time before the limit at which the profile asks for a signal."""
    subprocess.run(["scontrol", "update", f"JobId={training.job['JobId']}", "TimeLimit=1"], check=True)
    wait_for(training.was_told_to_stop, "the signal before the time limit")
    with contextlib.suppress(ProcessLookupError):
        training.send(signal.SIGCONT)


def kill(training):
    training.send(signal.SIGKILL)


def kill_daemon(training):
    """Take the node's daemon away, not the training, which goes on beside the one that replaces it.

    It is held until Slurm has missed the node: a training that ends before needs no replacement.
    """
    training.cluster.kill(training.job["NodeList"])

    def is_queued_again():
        return [job["Restarts"] for job in jobs_of(training.cluster.jobs(), training.point)] == ["1"]

    wait_for(is_queued_again, "the job of a node without a daemon to be queued again", PATIENCE)
    training.send(signal.SIGCONT)


def cut_power(training):
    node, job = training.job["NodeList"], training.job["JobId"]
    training.cluster.kill(node)
    lost = [
        (not command[0].startswith("slurmstepd"), number)
        for number, command, variables in processes()
        if command[0].startswith(f"slurmstepd: [{job}.") or f"SLURMD_NODENAME={node}" in variables
    ]
    # Whoever could tell of the others' end goes first.
    for _, number in sorted(lost):
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)


ATTACKS = {
    CANCELLED: cancel, OVER_TIME: end_its_time, KILLED: kill, POWERLESS: cut_power, DETACHED: kill_daemon
}  # fmt: skip


def stop(project, cluster, run, point, attack):
    """Stop a training in the middle; return the status just before."""
    training = Training(project, cluster, point, run)
    attack(training)
    return training.status


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    project = new_project(tmp_path_factory.mktemp("local") / "project")
    assert snakemake(project, "--cores", "2").wait() == 0, (project / "output").read_text()
    return project


@pytest.fixture(scope="module")
def attacked(tmp_path_factory):
    """A project whose trainings were each stopped once on a cluster, Slurm's jobs, and status at each stop."""
    project = new_project(tmp_path_factory.mktemp("slurm") / "project")
    profile = project / "profiles" / "slurm" / "profile.yaml"
    for name, value in SETTINGS.items():
        text = re.sub(rf'^  {name}: ""', f"  {name}: {value}", profile.read_text(), flags=re.MULTILINE)
        profile.write_text(text)
    with Cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        flags = ["--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "2"]
        run = snakemake(project, "--profile", "profiles/slurm", *flags)
        with ThreadPoolExecutor(len(ATTACKS)) as threads:
            attacks = [threads.submit(stop, project, cluster, run, *attack) for attack in ATTACKS.items()]
            try:
                assert run.wait(PATIENCE) == 0, (project / "output").read_text()
            finally:
                run.kill()
            seen = [attack.result() for attack in attacks]
        yield project, cluster.jobs(), seen


def test_the_tables_are_those_of_a_local_run(attacked, local):
    project, *_ = attacked
    assert len(tables(local)) == 14
    assert tables(project) == tables(local)


@pytest.mark.parametrize("point", [CANCELLED, OVER_TIME, KILLED, POWERLESS])
def test_a_stopped_training_went_on_where_it_was(attacked, point):
    project, *_ = attacked
    (log,) = project.glob(f"results/logs/train/digits_300-{point}/*.log")
    assert re.search(r"going on from step [1-9]\d* of", log.read_text())


def test_a_second_terminal_sees_what_runs_and_what_is_done(attacked):
    project, _, seen = attacked
    assert all(int(running) >= 1 for _, running, *_ in seen)
    assert status(project) == ["5", "0", "0", "0", "0", "0"]


@pytest.mark.parametrize("point", [POWERLESS, DETACHED])
def test_slurm_itself_requeued_the_job_of_a_lost_node(attacked, point):
    _, jobs, _ = attacked
    assert [job["Restarts"] for job in jobs_of(jobs, point)] == ["1"]


# How a job ends that was told of its time limit depends on how soon it has stopped.
@pytest.mark.parametrize(
    ("point", "states"),
    [(CANCELLED, {"CANCELLED"}), (OVER_TIME, {"FAILED", "TIMEOUT"}), (KILLED, {"FAILED"})],
)
def test_snakemake_submitted_a_stopped_training_again(attacked, point, states):
    _, jobs, _ = attacked
    first, second = jobs_of(jobs, point)
    assert first["JobState"] in states
    assert second["JobState"] == "COMPLETED"


def test_jobs_asked_for_what_the_profile_says(attacked):
    _, jobs, _ = attacked

    def asked(rule):
        those = [job for job in jobs if f"/rule_{rule}/" in job["StdOut"]]
        return {(job["Partition"], job["MinMemoryNode"], job.get("TresPerNode")) for job in those}

    assert asked("train") == {("gpu", memory, "gres:gpu:1") for memory in ("4000M", "8000M")}
    assert asked("curves") == {("cpu", "4000M", None)}
