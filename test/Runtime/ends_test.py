"""Runs that end early as asked: after the step, saved, with an exit code that says so.

    python ends_test.py <toy-stage> <launch.in> <bad-disk>
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import unittest

from stage_programs import ENVIRONMENT
from toy_program import ProgramFixture

FOUR = (2, 2, 1, 2)


class EndsTest(ProgramFixture):
    def setUp(self):
        self.dir, self.csv = self.path("run"), self.path("run.csv")
        shutil.rmtree(self.dir, ignore_errors=True)

    def options(self, *more):
        options = ["--data", self.path("tokens.bin"), "--shuffle", "--lr", 0.01, "--log", self.csv]
        return [str(option) for option in (*options, *more)]

    def start(self, *more):
        """A run that would last for very long, in a process group of its own, once it is in its steps."""
        if os.path.exists(self.csv):
            os.remove(self.csv)
        command = [self.program(FOUR) + "/launch", *self.options("--steps", 10**9, *more)]
        run = subprocess.Popen(
            command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        self.addCleanup(lambda: run.poll() is None and run.kill())
        while not os.path.exists(self.csv) or len(self.log(self.csv)) < 3:
            self.assertIsNone(run.poll())
            time.sleep(0.05)
        return run

    def processes(self, run, name):
        """Those below a run whose command begins with this name."""
        found, above = [], [run.pid]
        while above:
            for pid in self.children(above.pop()):
                above.append(pid)
                with open(f"/proc/{pid}/cmdline") as file:
                    if os.path.basename(file.read().split("\0")[0]).startswith(name):
                        found.append(pid)
        return sorted(found)

    def children(self, pid):
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(word) for word in file.read().split()]

    def ends(self, run, code):
        self.output, self.errors = run.communicate(timeout=60)
        self.assertEqual(run.returncode, code, self.output + self.errors)

    def assertGoesOn(self, by):
        """The checkpoint is of the last row of the log, and the next run's rows are those of one run."""
        step = int(re.search(rf"ended +by {by} after step (\d+); run again with --load .*/run", self.output).group(1))
        self.assertEqual(int(self.log(self.csv)[-1][0]), step)
        self.assertIn(f"saved       {self.dir}, step {step}\n", self.output)
        self.launch(FOUR, *self.options("--steps", step + 2, "--load", self.dir))
        rows = self.log(self.csv)
        self.launch(FOUR, *self.options("--steps", step + 2, "--log", self.path("whole.csv")))
        self.assertEqual([row[:4] for row in rows], [row[:4] for row in self.log(self.path("whole.csv"))])

    def test_signals_to_launch(self):
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            run = self.start("--save", self.dir, "--save-every", 10**6)
            run.send_signal(number)
            self.ends(run, 75)
            self.assertRegex(os.readlink(self.dir + "/latest"), r"^step_\d+$")
            shutil.rmtree(self.dir)

    def test_a_run_that_was_ended_goes_on(self):
        run = self.start("--save", self.dir)
        os.kill(self.processes(run, "mpirun")[0], signal.SIGTERM)
        self.ends(run, 75)
        self.assertGoesOn("SIGTERM")

    def test_ctrl_c_goes_to_the_whole_group(self):
        run = self.start("--save", self.dir)
        os.killpg(run.pid, signal.SIGINT)
        self.ends(run, 75)
        self.assertIn("saved", self.output)
        run = self.start("--load", self.dir, "--save", self.dir)
        os.killpg(run.pid, signal.SIGINT)
        os.killpg(run.pid, signal.SIGINT)
        run.communicate(timeout=60)
        self.assertIn(run.returncode, (75, 130))  # where the first one was fast

    def test_a_signal_to_one_rank(self):
        for number, which in ((signal.SIGTERM, 3), (signal.SIGUSR1, 1), (signal.SIGINT, 0)):
            run = self.start()
            os.kill(self.processes(run, "stage")[which], number)
            self.ends(run, 75)
            name = signal.Signals(number).name
            message = rf"^warning: ended by {name} after step \d+; nothing was saved, as there is no --save\n"
            self.assertRegex(self.errors, message)

    def test_a_killed_rank_is_a_failure(self):
        run = self.start()
        os.kill(self.processes(run, "stage")[2], signal.SIGKILL)
        self.ends(run, 70)
        self.assertRegex(self.errors, r"^error: rank 2 \(stage 1\) on host .*, died")

    def test_a_killed_launcher_leaves_no_rank(self):
        for kill_launch in (True, False):
            run = self.start()
            mpirun = self.processes(run, "mpirun")
            ranks = self.processes(run, "stage")
            self.assertEqual((len(mpirun), len(ranks)), (1, 4))
            os.kill(run.pid if kill_launch else mpirun[0], signal.SIGKILL)
            run.communicate(timeout=60)
            self.assertEqual(run.returncode, -signal.SIGKILL if kill_launch else 70)
            while any(os.path.exists(f"/proc/{pid}") and not self.is_zombie(pid) for pid in ranks):
                time.sleep(0.05)

    def is_zombie(self, pid):
        try:
            with open(f"/proc/{pid}/stat") as file:
                return file.read().rsplit(")", 1)[1].split()[0] == "Z"
        except FileNotFoundError:
            return True

    def test_max_seconds(self):
        self.launch(FOUR, *self.options("--steps", 10**9, "--save", self.dir, "--max-seconds", 2), code=75)
        self.assertEqual(self.errors, "")  # nor does the launcher say anything
        self.assertGoesOn("--max-seconds")
        # Trained to --steps before the time is up.
        self.launch(FOUR, *self.options("--steps", 2, "--max-seconds", 1000))

    def test_signals_before_the_first_step(self):
        """At random moments of the start: the run is not there yet, or ends with a checkpoint."""
        for moment in (0.1, 0.3, 0.6):
            command = [self.program(FOUR) + "/launch", *self.options("--steps", 10**9, "--save", self.dir)]
            run = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            self.addCleanup(lambda run=run: run.poll() is None and run.kill())
            time.sleep(moment)
            run.send_signal(signal.SIGTERM)
            _, errors = run.communicate(timeout=60)
            self.assertIn(run.returncode, (75, -signal.SIGTERM), errors)
            self.assertEqual(run.returncode == 75, os.path.exists(self.dir))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[4:], verbosity=2)
