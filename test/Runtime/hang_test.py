"""No wait without end: ranks that stop or die are named, all end, and `launch --restarts` goes on bit for bit.

    python hang_test.py <toy-stage> <launch.in> <bad-disk> [test …]
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from stage_programs import ENVIRONMENT
from toy_program import BAD_DISK, RunFixture, run_at_once

ONE, FOUR = (1, 1, 1, 1), RunFixture.FOUR
DEADLINE = 2
FAULTS = os.path.join(os.path.dirname(__file__), "../../bench/faults.py")
# Where a rank was when it last said so; it may not have had the time.
HEARD = r"(, last heard at .+|, not heard of before)"


class HangTest(RunFixture):
    def start(self, *more, **rest):
        return super().start("--timeout", DEADLINE, *more, **rest)

    def assertSaidOnce(self, pattern):
        """Without a word of the launcher's."""
        self.assertRegex(self.errors, rf"^error: {pattern}\n$")

    def test_a_dozen_faults(self):
        command = [sys.executable, FAULTS, "--program", self.program(FOUR), "--bad-disk", BAD_DISK, "--seed", "7"]
        settings = ["--count", "12", "--first", "6", "--steps", "120", "--every", "20", "--deadline", "2", "--jobs", "2"]
        result = subprocess.run([*command, *settings], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
        self.assertEqual(result.returncode, 0, result.stdout)

    def test_all_ranks_are_stopped(self):
        run = self.start("--save", self.dir)
        ranks = self.processes(run, "stage")
        for rank in ranks:
            os.kill(rank, signal.SIGSTOP)
        run.terminate()
        self.ends(run, 71)
        named = "; ".join(rf"rank {rank} \(stage {rank // 2}\) on host \S+, process {ranks[rank]}, stopped" for rank in range(4))
        self.assertSaidOnce(rf"no rank ran for 12 s \(--timeout 2, and 10\): {named}; mpirun on host \S+, process \d+, waits")
        self.assertGone(ranks)

    def test_a_rank_that_is_stopped_while_mpi_starts(self):
        run = self.start(wait=False)
        while len(ranks := self.processes(run, "stage")) < 4:
            time.sleep(0.001)
        os.kill(ranks[1], signal.SIGSTOP)
        self.ends(run, 71)
        start = rf"no rank got on for 12 s \(--timeout 2, and 10 while MPI starts\): rank [023], .*, waits; missing: rank 1 on "
        steps = rf"no rank got on for {DEADLINE} s \(--timeout\): rank [023] .*, waits; missing: rank 1 \(stage 0\) on "
        # What MPI says of its start, as it is ended, may follow.
        self.assertRegex(self.errors, rf"^error: ({start}|{steps})host \S+, process {ranks[1]}, stopped")
        self.assertEqual(self.errors.count("error: "), 1, self.errors)
        self.assertGone(ranks)

    def test_the_launcher_is_stopped_while_it_starts(self):
        run = self.start(wait=False)
        while not (launcher := self.processes(run, "mpirun")):
            time.sleep(0.001)
        os.kill(launcher[0], signal.SIGSTOP)
        ranks = self.processes(run, "stage")
        self.ends(run, 71)
        self.assertSaidOnce(rf"no rank (ran|got on) for .*")
        self.assertGone(launcher + ranks)

    def stops(self, which, stage):
        run = self.start("--events", self.dir)
        ranks = self.processes(run, "stage")
        os.kill(ranks[which], signal.SIGSTOP)
        self.ends(run, 71)
        place = r"rank \d \(stage \d\), step \d+, .*(among ranks|from rank|to rank|a collective).*, waits"
        missing = rf"missing: rank {which} \(stage {stage}\) on host \S+, process {ranks[which]}, stopped{HEARD}"
        self.assertSaidOnce(rf"no rank got on for {DEADLINE} s \(--timeout\): {place}; {missing}")
        events = "".join(path.read_text() for path in Path(self.dir).glob("rank_*.jsonl"))
        self.assertEqual(events.count('"event":"timeout"'), 1)
        self.assertGone(ranks)

    def test_a_stopped_rank_passes_the_deadline(self):
        self.stops(3, 1)

    def test_the_rank_that_leads_is_stopped(self):
        self.stops(0, 0)

    def test_several_that_are_stopped(self):
        run = self.start()
        ranks = self.processes(run, "stage")
        for rank in ranks[:3]:
            os.kill(rank, signal.SIGSTOP)
        self.ends(run, 71)
        self.assertSaidOnce("no rank .*missing: rank 0 .*, stopped.*; rank 1 .*, stopped.*; rank 2 .*, stopped.*")
        self.assertGone(ranks)

    def test_a_stopped_launcher_goes_on_at_the_end(self):
        for code, options, steps in ((0, [], 1000), (75, ["--save", self.dir], 10**9)):
            run = self.start(*options, steps=steps)
            launcher, ranks = self.processes(run, "mpirun"), self.processes(run, "stage")
            os.kill(launcher[0], signal.SIGSTOP)
            if code == 75:
                run.terminate()
            self.ends(run, code)
            self.assertEqual(
                self.errors, f"warning: mpirun, process {launcher[0]}, was stopped, and goes on, as all ranks wait for it\n"
            )
            self.assertGone(ranks + launcher)
        self.assertIn("saved", self.output)

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
        run = self.start("--timeout", 60)
        for which in (0, 3):
            rank = self.processes(run, "stage")[which]
            os.kill(rank, signal.SIGSTOP)
            time.sleep(0.5)
            os.kill(rank, signal.SIGCONT)
        run.terminate()
        self.ends(run, 75)
        self.assertNotIn("error", self.errors)

    def dies(self, which, stage):
        run = self.start()
        ranks = self.processes(run, "stage")
        os.kill(ranks[which], signal.SIGKILL)
        self.ends(run, 70)
        # Who sees it may be ended before it says so, and `launch` then does.
        self.assertSaidOnce(rf"rank {which} \(stage {stage}\) on host \S+(, process {ranks[which]}, died{HEARD}|.*, died of signal 9)")
        self.assertGone(ranks)

    def test_a_rank_that_dies_is_named_once(self):
        self.dies(2, 1)

    def test_the_rank_that_leads_dies(self):
        self.dies(0, 0)

    def test_all_ranks_die(self):
        run = self.start()
        for rank in self.processes(run, "stage"):
            os.kill(rank, signal.SIGKILL)
        self.ends(run, 70)
        self.assertSaidOnce(r"rank \d \(stage \d\) on host \S+, .*died.*")

    def test_restarts_go_on_bit_for_bit(self):
        whole = self.own + "/whole.csv"
        steps = 1500
        self.launch(FOUR, *self.options("--steps", steps, "--log", whole, "--save", self.own + "/whole"))
        run = self.start("--save", self.dir, "--save-every", 200, "--restarts", 1, steps=steps)
        while len(self.log(self.csv)) < 500:
            time.sleep(0.02)
        os.kill(self.processes(run, "stage")[1], signal.SIGKILL)
        self.ends(run, 0)
        self.assertRegex(self.errors, r"\nrestart 1 \(1 of 1 without a new checkpoint\), from step \d+: rank 1 .* died")
        self.assertEqual([row[:4] for row in self.log(self.csv)], [row[:4] for row in self.log(whole)])
        for name in ("model.safetensors", "optimizer.safetensors"):
            with open(f"{self.dir}/latest/{name}", "rb") as a, open(f"{self.own}/whole/{name}", "rb") as b:
                self.assertEqual(a.read(), b.read())

    def test_restarts_without_a_new_checkpoint_are_counted(self):
        for save in ([], ["--save", self.dir]):
            self.launch(FOUR, *self.options("--steps", 3, "--restarts", 2, *save), word="segfault", code=70)
            self.assertEqual(re.findall(r"^restart (\d) \((\d) of 2 .*from its own start: ", self.errors, re.M), [("1", "1"), ("2", "2")])
            self.assertEqual(self.errors.count("Segmentation fault"), 5)  # three times, and twice as a cause
            # A checkpoint of another plan's, of step 1, which the failing one then begins with.
            self.launch(FOUR, *self.options("--steps", 1, "--save", self.own + "/one"))

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
        good, self.data = self.data, self.own + "/tokens.bin"
        shutil.copy(good, self.data)
        run = self.start("--save", self.dir, "--restarts", 2)
        with open(self.data, "r+b") as file:
            file.write(bytes([255]) * os.path.getsize(self.data))
        self.ends(run, 70)
        step = int(re.search(rf"saved +{self.dir}, step (\d+)\n", self.output).group(1))
        # And no restart.
        self.assertSaidOnce(rf"rank \d: no data for step {step + 1}: .*tokens.bin: token \d+ is 255, outside the vocabulary of 16.*")
        self.assertEqual(int(self.log(self.csv)[-1][0]), step)
        self.data = good
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
        self.ends(run, 71)
        self.assertSaidOnce("no rank got on for .* missing: rank 3 .*")
        self.assertFalse(os.path.exists(self.dir + "/latest"))

    def test_refusals_are_not_tried_again(self):
        for options in (["--restarts", "many"], ["--restarts", 2, "--timeout", -1], ["--restarts", 2, "--keep", 1]):
            self.launch(ONE, *options, code=1)
            self.assertEqual(self.errors.count("error: "), 1)
            self.assertNotIn("restart 1", self.errors)


if __name__ == "__main__":
    run_at_once(HangTest, jobs=4)
