"""A Slurm cluster of a few virtual nodes with fake GPUs on one machine, for as long as a `with` block lasts.

It has to run in namespaces of its own (`tests/slurm/run`): then its configuration lies in an `/etc/slurm` that
nobody else sees, its ports on a loopback that nobody else reaches, and whatever it started ends with it.
"""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

CONFIGURATION = Path("/etc/slurm")

# Job steps are not told SLURM_CONF, so the files lie where Slurm looks by itself. Accounting is off.
SLURM_CONF = """\
ClusterName=virtual
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
GresTypes=gpu,shard
JobRequeue=1
ReturnToService=2
MinJobAge=3600
SlurmdTimeout=60
MessageTimeout=60
KillWait=30
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdSpoolDir={folder}/%n
SlurmdPidFile={folder}/%n.pid
SlurmdLogFile={folder}/%n.log
SlurmdParameters=config_overrides
PartitionName=cpu Nodes=ALL Default=YES
PartitionName=gpu Nodes=ALL
"""
NODE = """\
NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2 RealMemory=16000 Gres=gpu:fake:1,shard:2
"""
GRES = """\
NodeName={name} Name=gpu Type=fake File={device}
NodeName={name} Name=shard Count=2
"""


class Cluster:
    """A cluster with a controller and a daemon for each node: two CPUs and one fake GPU of two shards."""

    def __init__(self, folder, nodes=4):
        self.folder = folder
        self.nodes = [f"node{number}" for number in range(nodes)]
        self._daemons = {}

    def __enter__(self):
        if not os.path.ismount(CONFIGURATION):
            raise RuntimeError(f"{CONFIGURATION} is the machine's own; start with tests/slurm/run")
        self._configure()
        try:
            self._start_munge()
            self._start("slurmctld", ["slurmctld", "-D"])
            for node in self.nodes:
                self._start(node, ["slurmd", "-D", "-N", node])
            wait_for(lambda: self.states() == dict.fromkeys(self.nodes, "idle"), "idle nodes")
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def _configure(self):
        host = socket.gethostname()
        lines, gres = [SLURM_CONF.format(host=host, folder=self.folder)], []
        for number, node in enumerate(self.nodes):
            (self.folder / node).mkdir()
            device = self.folder / f"gpu{number}"
            os.mknod(device, 0o666 | 0o020000, os.makedev(1, 3))
            lines.append(NODE.format(name=node, host=host, port=17000 + number))
            gres.append(GRES.format(name=node, device=device))
        (self.folder / "state").mkdir()
        (CONFIGURATION / "slurm.conf").write_text("".join(lines))
        (CONFIGURATION / "gres.conf").write_text("".join(gres))

    def _start_munge(self):
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        files = {"key-file": key, "socket": self.folder / "munge.socket"}
        files |= {name: self.folder / f"munge.{name}" for name in ("pid-file", "log-file", "seed-file")}
        # Forced, for the folders above are not root's alone.
        self._start("munged", ["munged", "-F", "--force", *(f"--{name}={path}" for name, path in files.items())])
        wait_for(files["socket"].exists, "munge")

    def _start(self, name, command):
        with open(self.folder / f"{name}.out", "ab") as output:
            self._daemons[name] = subprocess.Popen(command, stdout=output, stderr=output)

    def kill(self, name):
        """Kill a daemon with SIGKILL; what it started lives on."""
        daemon = self._daemons.pop(name)
        daemon.kill()
        daemon.wait()

    def states(self):
        """Return the state of each node, in Slurm's words."""
        done = subprocess.run(["sinfo", "-h", "-p", "cpu", "-N", "-o", "%N %t"], capture_output=True, text=True)
        return dict(line.split() for line in done.stdout.splitlines())

    def jobs(self):
        """Return what the controller knows of each job, ended ones included."""
        text = subprocess.run(["scontrol", "--oneliner", "show", "job"], capture_output=True, text=True).stdout
        pairs = (dict(word.split("=", 1) for word in line.split() if "=" in word) for line in text.splitlines())
        return [job for job in pairs if "JobId" in job]

    def stop(self):
        """Cancel all jobs, and end all daemons."""
        if "slurmctld" in self._daemons:
            subprocess.run(["scancel", "--user=root"], capture_output=True)
        for daemon in reversed(self._daemons.values()):
            daemon.send_signal(signal.SIGTERM)
        for daemon in self._daemons.values():
            try:
                daemon.wait(timeout=20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self._daemons.clear()
        for path in CONFIGURATION.iterdir():
            path.unlink()


def wait_for(condition, what, seconds=300):
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(0.2)


def processes():
    """Return number, command and environment of each process that can be seen."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            texts = [(folder / name).read_bytes().decode(errors="replace") for name in ("cmdline", "environ")]
        except (FileNotFoundError, ProcessLookupError):
            continue
        found.append((int(folder.name), *(text.split("\0") for text in texts)))
    return found
