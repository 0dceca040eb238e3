"""No wait without end: ranks that stop or die are named, all end, and `launch --restarts` goes on bit for bit.

    python hang_test.py <toy-stage> <launch.in> <bad-disk>
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import unittest
from pathlib import Path

from stage_programs import ENVIRONMENT
from toy_program import BAD_DISK, ProgramFixture

ONE, FOUR = (1, 1, 1, 1), (2, 2, 1, 2)
DEADLINE = 2
FAULTS = os.path.join(os.path.dirname(__file__), "../../bench/faults.py")


class HangTest(ProgramFixture):
    def setUp(self):
        self.dir, self.csv = self.path("run"), self.path("run.csv")
        shutil.rmtree(self.dir, ignore_errors=True)

    def options(self, *more):
        options = ["--data", self.path("tokens.bin"), "--shuffle", "--lr", 0.01, "--log", self.csv]
        return [str(option) for option in (*options, *more)]

    def start(self, *more, wait=True, steps=10**9, environment=()):
        """A run that would last for very long, once it is in its steps."""
        if os.path.exists(self.csv):
            os.remove(self.csv)
        command = [self.program(FOUR) + "/launch", *self.options("--steps", steps, "--timeout", DEADLINE, *more)]
        run = subprocess.Popen(
            command,
            env=ENVIRONMENT | dict(environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.addCleanup(lambda: run.poll() is None and run.kill())
        while wait and (not os.path.exists(self.csv) or len(self.log(self.csv)) < 3):
            self.assertIsNone(run.poll())
            time.sleep(0.05)
        return run

    def processes(self, run, name):
        """Those below a run whose command begins with this name, in the order of ranks."""
        found, above = [], [run.pid]
        while above:
            for pid in self.children(above.pop()):
                above.append(pid)
                try:
                    with open(f"/proc/{pid}/cmdline") as file:
                        if os.path.basename(file.read().split("\0")[0]).startswith(name):
                            found.append(pid)
                except FileNotFoundError:
                    pass
        return sorted(found)

    def children(self, pid):
        try:
            with open(f"/proc/{pid}/task/{pid}/children") as file:
                return [int(word) for word in file.read().split()]
        except FileNotFoundError:
            return []

    def ends(self, run, code):
        self.output, self.errors = run.communicate(timeout=100)
        self.assertEqual(run.returncode, code, self.output + self.errors)

    def assertGone(self, pids):
        for pid in pids:
            while os.path.exists(f"/proc/{pid}"):
                with open(f"/proc/{pid}/stat") as file:
                    if file.read().rsplit(")", 1)[1].split()[0] == "Z":
                        break
                time.sleep(0.05)

    def test_a_stopped_rank_passes_the_deadline(self):
        for which, stage in ((3, 1), (0, 0)):  # also the one that leads
            shutil.rmtree(self.dir, ignore_errors=True)
            run = self.start("--events", self.dir)
            ranks = self.processes(run, "stage")
            os.kill(ranks[which], signal.SIGSTOP)
            self.ends(run, 71)
            events = [Path(self.dir, f"rank_0000{rank}.jsonl").read_text() for rank in range(4)]
            self.assertIn("".join(events).count('"event":"timeout"'), (1, 2))  # two, where a new leader had begun
            place = rf"rank \d \(stage \d\), step \d+, .*(among ranks|from rank|a collective).*, waits"
            missing = rf"missing: rank {which} \(stage {stage}\) on host \S+, process {ranks[which]}, stopped( in .+)?"
            self.assertRegex(self.errors, rf"^error: no rank got on for {DEADLINE} s \(--timeout\): {place}; {missing}")
            self.assertLessEqual(self.errors.count("error: "), 2)
            self.assertNotIn("mpirun", self.errors)  # without the launcher's words
            self.assertGone(ranks)

    def test_several_that_are_stopped(self):
        run = self.start()
        ranks = self.processes(run, "stage")
        for rank in ranks[:3]:
            os.kill(rank, signal.SIGSTOP)
        self.ends(run, 71)
        self.assertRegex(self.errors, "missing: rank 0 .*, stopped.*; rank 1 .*, stopped.*; rank 2 .*, stopped")
        self.assertGone(ranks)

    def test_a_rank_that_is_stopped_while_mpi_starts(self):
        run = self.start(wait=False)
        while len(ranks := self.processes(run, "stage")) < 4:
            time.sleep(0.001)
        os.kill(ranks[1], signal.SIGSTOP)
        self.ends(run, 71)
        start = r"no rank got on for 12 s \(--timeout 2, and 10 while MPI starts\): rank 0, .*, waits; missing: rank 1 on "
        steps = rf"no rank got on for {DEADLINE} s"
        self.assertRegex(self.errors, rf"^error: ({start}|{steps}).*process {ranks[1]}, stopped")
        self.assertEqual(self.errors.count("error: "), 1, self.errors)
        self.assertGone(ranks)

    def test_a_stopped_launcher_is_noticed_at_the_end(self):
        run = self.start(steps=3000)
        launcher, ranks = self.processes(run, "mpirun"), self.processes(run, "stage")
        os.kill(launcher[0], signal.SIGSTOP)
        self.ends(run, 71)
        self.assertGone(ranks + launcher)

    def test_without_a_deadline_a_stopped_rank_is_waited_for(self):
        run = self.start("--timeout", 0)
        rank = self.processes(run, "stage")[2]
        os.kill(rank, signal.SIGSTOP)
        time.sleep(1)
        self.assertIsNone(run.poll())
        os.kill(rank, signal.SIGCONT)
        run.terminate()
        self.ends(run, 75)

    def test_a_rank_that_goes_on_in_time(self):
        run = self.start("--timeout", 30)
        for which in (0, 3):
            rank = self.processes(run, "stage")[which]
            os.kill(rank, signal.SIGSTOP)
            time.sleep(0.5)
            os.kill(rank, signal.SIGCONT)
        run.terminate()
        self.ends(run, 75)
        self.assertNotIn("error", self.errors)

    def test_a_rank_that_dies_is_named_once(self):
        for which, stage in ((2, 1), (0, 0)):
            run = self.start()
            ranks = self.processes(run, "stage")
            os.kill(ranks[which], signal.SIGKILL)
            self.ends(run, 70)
            message = rf"^error: rank {which} \(stage {stage}\) on host \S+, process {ranks[which]}, died( in .*)?\n$"
            if which == 0:  # of the one that leads mpirun may end the others before they have told
                message += r"|noticed that process rank 0 .* signal 9"
            self.assertRegex(self.errors, message)
            self.assertGone(ranks)

    def test_restarts_go_on_bit_for_bit(self):
        whole = self.path("whole.csv")
        steps = 6000
        self.launch(FOUR, *self.options("--steps", steps, "--log", whole, "--save", self.path("whole")))
        run = self.start("--save", self.dir, "--save-every", 500, "--restarts", 1, steps=steps)
        self.await_step(1200)
        os.kill(self.processes(run, "stage")[1], signal.SIGKILL)
        self.ends(run, 0)
        self.assertRegex(self.errors, r"\nrestart 1 \(1 of 1 without a new checkpoint\), from step \d+: rank 1 .* died")
        self.assertEqual([row[:4] for row in self.log(self.csv)], [row[:4] for row in self.log(whole)])
        for name in ("model.safetensors", "optimizer.safetensors"):
            with open(f"{self.dir}/latest/{name}", "rb") as a, open(self.path("whole/" + name), "rb") as b:
                self.assertEqual(a.read(), b.read())

    def await_step(self, step):
        while len(self.log(self.csv)) < step:
            time.sleep(0.02)

    def test_restarts_without_a_new_checkpoint_are_counted(self):
        for save in ([], ["--save", self.dir]):
            self.launch(FOUR, *self.options("--steps", 3, "--restarts", 2, *save), word="segfault", code=70)
            self.assertEqual(re.findall(r"^restart (\d) \((\d) of 2 .*from its own start: ", self.errors, re.M), [("1", "1"), ("2", "2")])
            self.assertEqual(self.errors.count("Segmentation fault"), 5)  # three times, and twice as a cause
            # A checkpoint of another plan's, of step 1, which the failing one then begins with.
            self.launch(FOUR, *self.options("--steps", 1, "--save", self.path("one")))

    def test_what_others_saved_is_not_gone_on_from(self):
        self.launch(FOUR, *self.options("--steps", 1, "--save", self.dir))
        # Not even by a restart: refused, as the first start would have been.
        load = ["--load", self.dir, "--save", self.dir, "--restarts", 1]
        self.launch(FOUR, *self.options("--steps", 3, *load), word="segfault", code=70)
        self.assertIn("restart 1 (1 of 1 without a new checkpoint), from its own start: rank", self.errors)

    def test_the_last_step_was_saved(self):
        self.launch(FOUR, *self.options("--steps", 2, "--save", self.dir, "--save-every", 1))
        os.remove(self.dir + "/latest")
        self.launch(FOUR, *self.options("--steps", 2, "--save", self.dir, "--save-every", 1, "--restarted", 1))
        self.assertRegex(self.output, r"start +checkpoint .*step_000002, step 2\ncomplete +that is the last step")
        self.assertEqual(os.readlink(self.dir + "/latest"), "step_000002")
        # And where nothing that was saved is whole.
        for step in (1, 2):
            os.truncate(f"{self.dir}/step_00000{step}/model.safetensors", 100)
        self.launch(FOUR, *self.options("--steps", 3, "--save", self.dir, "--save-every", 1, "--restarted", 1))
        self.assertIn("warning: this run starts as it first did: none of the checkpoints in", self.errors)
        self.assertEqual(len(self.log(self.csv)), 3)

    def test_data_that_cannot_be_read_end_the_run_saved(self):
        run = self.start("--save", self.dir, "--restarts", 2)
        with open(self.path("tokens.bin"), "r+b") as file:
            good = file.read()
            file.seek(0)
            file.write(bytes([255]) * len(good))
        self.ends(run, 70)
        with open(self.path("tokens.bin"), "wb") as file:
            file.write(good)
        step = int(re.search(rf"saved +{self.dir}, step (\d+)\n", self.output).group(1))
        message = rf"^error: rank \d: no data for step {step + 1}: .*tokens.bin: token \d+ is 255, outside the vocabulary of 16"
        self.assertRegex(self.errors, message)
        self.assertEqual(self.errors.count("\n"), 1)  # and no restart
        self.assertEqual(int(self.log(self.csv)[-1][0]), step)
        self.launch(FOUR, *self.options("--steps", step + 1, "--load", self.dir))

    def test_a_save_gets_on_by_what_it_writes(self):
        # Longer than the deadline in all, and ranks wait for those that write more; then one of them stops.
        slow = {"LD_PRELOAD": BAD_DISK, "DISK_IS_SLOW": str(DEADLINE * 400_000)}
        save = ["--save", self.dir, "--save-every", 1, "--timeout", DEADLINE]
        self.launch(FOUR, *self.options("--steps", 2, *save), environment=slow)
        self.assertEqual(os.readlink(self.dir + "/latest"), "step_000002")
        shutil.rmtree(self.dir)
        run = self.start("--save", self.dir, "--save-every", 1, wait=False, environment=slow)
        while not os.path.exists(self.dir + "/step_000001.partial"):
            time.sleep(0.02)
        stopped = self.processes(run, "stage1")[-1]
        os.kill(stopped, signal.SIGSTOP)
        output, errors = run.communicate()
        self.assertEqual(run.returncode, 71, errors)
        self.assertRegex(errors, "no rank got on for .* missing: rank 3")
        self.assertFalse(os.path.exists(self.dir + "/latest"))

    def test_refusals_are_not_tried_again(self):
        for options in (["--restarts", "many"], ["--restarts", 2, "--timeout", -1], ["--restarts", 2, "--keep", 1]):
            self.launch(ONE, *options, code=1)
            self.assertEqual(self.errors.count("error: "), 1)
            self.assertNotIn("restart 1", self.errors)

    def test_a_dozen_faults(self):
        command = [sys.executable, FAULTS, "--program", self.program(FOUR), "--bad-disk", BAD_DISK, "--seed", "7"]
        settings = ["--count", "12", "--first", "6", "--steps", "3000", "--every", "400", "--deadline", "2", "--jobs", "3"]
        result = subprocess.run([*command, *settings], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
        self.assertEqual(result.returncode, 0, result.stdout)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[4:], verbosity=2)
