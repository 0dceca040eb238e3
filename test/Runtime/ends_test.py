"""Runs that end early as asked: after the step, saved, with an exit code that says so.

    python ends_test.py <toy-stage> <launch.in> <bad-disk>
"""

import os
import re
import shutil
import signal
import subprocess
import time

from stage_programs import ENVIRONMENT
from toy_program import RunFixture, run_at_once

FOUR = RunFixture.FOUR


class EndsTest(RunFixture):
    def assertGoesOn(self, by):
        """The checkpoint is of the last row of the log, and the next run's rows are those of one run."""
        step = int(re.search(rf"ended +by {by} after step (\d+); run again with --load .*/run", self.output).group(1))
        self.assertEqual(int(self.log(self.csv)[-1][0]), step)
        self.assertIn(f"saved       {self.dir}, step {step}\n", self.output)
        self.launch(FOUR, *self.options("--steps", step + 2, "--load", self.dir))
        rows = self.log(self.csv)
        whole = self.own + "/whole.csv"
        self.launch(FOUR, *self.options("--steps", step + 2, "--log", whole))
        self.assertEqual([row[:4] for row in rows], [row[:4] for row in self.log(whole)])

    def test_signals_to_launch(self):
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            run = self.start("--save", self.dir, "--save-every", 10**6)
            run.send_signal(number)
            self.ends(run, 75)
            self.assertRegex(self.output, rf"ended +by {number.name} after step")
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
        self.assertRegex(self.errors, r"^error: rank 2 \(stage 1\) on host .*, died.*\n$")

    def test_a_killed_launcher_leaves_no_rank(self):
        for kill_launch in (True, False):
            run = self.start()
            mpirun = self.processes(run, "mpirun")
            ranks = self.processes(run, "stage")
            self.assertEqual((len(mpirun), len(ranks)), (1, 4))
            os.kill(run.pid if kill_launch else mpirun[0], signal.SIGKILL)
            run.communicate(timeout=60)
            self.assertEqual(run.returncode, -signal.SIGKILL if kill_launch else 70)
            self.assertGone(ranks)

    def test_max_seconds(self):
        self.launch(FOUR, *self.options("--steps", 10**9, "--save", self.dir, "--max-seconds", 2), code=75)
        self.assertEqual(self.errors, "")  # nor does the launcher say anything
        self.assertGoesOn("--max-seconds")
        # Trained to --steps before the time is up.
        self.launch(FOUR, *self.options("--steps", 2, "--max-seconds", 1000))

    def test_max_seconds_are_of_all_starts(self):
        self.launch(FOUR, *self.options("--steps", 10**9, "--max-seconds", 1000, "--spent", 999), code=75)
        self.assertIn("ended by --max-seconds after step", self.errors)
        self.launch(FOUR, *self.options("--steps", 3, "--max-seconds", 2, "--restarts", 1000), word="segfault", code=70)
        self.assertRegex(self.errors, r"\nno restart, as the time of --max-seconds is over: rank \d .*Segmentation fault\n$")

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
    run_at_once(EndsTest, jobs=3)
