"""Debian's Slurm with controller, daemon and munge on this machine starts, signals and requeues a program.

    python slurm_test.py <toy-stage> <launch.in> <bad-disk>

All it has lies in a folder and listens at ports of its own. Skipped where there is no root or no Slurm.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import unittest

from stage_programs import ENVIRONMENT
from toy_program import ProgramFixture

PLAN = (2, 2, 1, 2)
SKIPPED = 77  # ctest's SKIP_RETURN_CODE
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CredType=cred/munge
SlurmctldPort={port}
SlurmdPort={node_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
JobRequeue=1
FirstJobId={first}
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def why_not():
    if os.geteuid() != 0:
        return "root is needed for Slurm's daemons"
    missing = [tool for tool in ("slurmctld", "slurmd", "munged", "srun") if not shutil.which(tool)]
    return f"{missing[0]} is not there (Debian: slurmctld, slurmd, slurm-client, munge)" if missing else ""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class SlurmTest(ProgramFixture):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        os.chmod(cls.folder, 0o755)
        for name in ("state", "spool", "munge"):
            os.mkdir(cls.path(name), 0o700)
        with open(cls.path("munge/key"), "wb") as file:
            file.write(os.urandom(1024))
        os.chmod(cls.path("munge/key"), 0o400)
        with open(cls.path("slurm.conf"), "w") as file:
            host = socket.gethostname().split(".")[0]
            first = 1000 + time.time_ns() // 10**6 % 10**9 // 1000 * 100  # PMIx' folders have names of jobs
            file.write(CONFIG.format(host=host, folder=cls.folder, port=free_port(), node_port=free_port(), first=first))
        cls.environment = {n: v for n, v in ENVIRONMENT.items() if not n.startswith("SLURM_")}
        cls.environment["SLURM_CONF"] = cls.path("slurm.conf")
        cls.daemons = []
        cls.addClassCleanup(cls.stop)
        munge = [f"--{name}={cls.path('munge/' + name)}" for name in ("key-file", "pid-file", "seed-file", "log-file")]
        munge[0] = f"--key-file={cls.path('munge/key')}"
        cls.daemon("munged", "--force", "--foreground", f"--socket={cls.path('munge.sock')}", *munge)
        cls.wait_for(lambda: os.path.exists(cls.path("munge.sock")), "munged")
        cls.daemon("slurmctld", "-D", "-c")
        cls.daemon("slurmd", "-D")
        cls.wait_for(lambda: " idle " in cls.run_tool("sinfo").stdout, "an idle node")

    @classmethod
    def daemon(cls, *command):
        with open(cls.path(command[0] + ".out"), "w") as log:
            cls.daemons.append(subprocess.Popen(command, env=cls.environment, stdout=log, stderr=log))

    @classmethod
    def stop(cls):
        cls.run_tool("scancel", "--user=root")
        time.sleep(2)
        for daemon in reversed(cls.daemons):
            daemon.terminate()
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    @classmethod
    def run_tool(cls, *command, timeout=60):
        return subprocess.run(
            command, env=cls.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout
        )

    @classmethod
    def wait_for(cls, done, what, seconds=60):
        deadline = time.time() + seconds
        while not done():
            if time.time() > deadline:
                raise AssertionError(f"{what} does not come")
            time.sleep(0.1)

    def text(self, name):
        if not os.path.exists(self.path(name)):
            return ""
        with open(self.path(name)) as file:
            return file.read()

    def submit(self, name, *options):
        """A job that runs the program and writes down each exit code of `launch`."""
        words = [self.program(PLAN) + "/launch", "--launcher", "srun", "--data", self.path("tokens.bin"), *options]
        with open(self.path(name + ".sh"), "w") as file:
            file.write(f"#!/bin/sh\ntrap 'kill -USR1 $run' USR1\ntrap 'kill -TERM $run' TERM\n")
            file.write(" ".join(map(str, words)) + " & run=$!\n")
            file.write(f"wait $run; while kill -0 $run 2>/dev/null; do wait $run; done; wait $run; echo $? >> {self.path(name + '.codes')}\n")
        out = self.path(name + ".out")
        result = self.run_tool("sbatch", "-n4", "--requeue", "--open-mode=append", "-o", out, self.path(name + ".sh"))
        return re.search(r"Submitted batch job (\d+)", result.stdout).group(1)

    def job(self, job):
        return self.run_tool("scontrol", "show", "job", job).stdout

    def is_in_state(self, job, state):
        return f"JobState={state}" in self.job(job)

    def wait_for_job(self, job, name, done, what, seconds=40):
        """Likewise, and what the job said where it does not come."""
        try:
            self.wait_for(done, what, seconds)
        except AssertionError as error:
            self.fail(f"{error}\n{self.text(name + '.out')[-3000:]}{self.text(name + '.codes')}{self.job(job)}")

    def steps(self, name):
        path = self.path(name)
        return len(self.log(path)) if os.path.exists(path) else 0

    def test_starts(self):
        here, there = self.path("here.csv"), self.path("there.csv")
        options = ["--steps", "3", "--data", self.path("tokens.bin")]
        self.launch(PLAN, *options, "--log", here)
        launch = self.program(PLAN) + "/launch"
        for launcher in ([launch, "--launcher", "srun"], ["salloc", "-n4", launch]):
            if os.path.exists(there):
                os.remove(there)
            result = self.run_tool(*launcher, *options, "--log", there)
            self.assertEqual(result.returncode, 0, result.stdout)
            self.assertEqual([row[:4] for row in self.log(there)], [row[:4] for row in self.log(here)])

    def test_signals(self):
        save = self.path("signals")
        job = self.submit("signals", "--steps", 10**9, "--log", self.path("signals.csv"), "--save", save)
        self.wait_for_job(job, "signals", lambda: self.steps("signals.csv") > 3, "a step")
        self.run_tool("scancel", "--batch", "--signal=USR1", job)
        self.wait_for_job(job, "signals", lambda: self.text("signals.codes"), "the end")
        self.assertEqual(self.text("signals.codes"), "75\n", self.text("signals.out"))
        self.assertRegex(self.text("signals.out"), r"ended +by SIGUSR1 after step \d+")
        self.assertTrue(os.path.exists(save + "/training.json"))

    def test_requeues(self):
        save, log = self.path("requeues"), "requeues.csv"
        job = self.submit(
            "requeues", "--steps", 10**9, "--log", self.path(log), "--save", save, "--save-every", 100, "--load", save
        )
        self.wait_for_job(job, "requeues", lambda: os.path.exists(save + "/latest"), "a checkpoint")
        self.run_tool("scontrol", "requeue", job)
        self.wait_for_job(job, "requeues", lambda: self.is_in_state(job, "PENDING"), "the queue")
        self.run_tool("scontrol", "update", f"JobId={job}", "StartTime=now")  # Slurm would wait two minutes
        goes_on = lambda: re.search(r"start +.*requeues.*step \d+", self.text("requeues.out"))
        self.wait_for_job(job, "requeues", goes_on, "going on")
        self.run_tool("scancel", job)
        ended = lambda: self.is_in_state(job, "CANCELLED") and "COMPLETING" not in self.job(job)
        self.wait_for_job(job, "requeues", ended, "the end")
        steps = [int(row[0]) for row in self.log(self.path(log))]
        self.assertEqual(steps, list(range(1, len(steps) + 1)))


if __name__ == "__main__":
    if reason := why_not():
        print(f"skipped: {reason}")
        sys.exit(SKIPPED)
    unittest.main(argv=sys.argv[:1] + [f"SlurmTest.{name}" for name in sys.argv[4:]], verbosity=2)
