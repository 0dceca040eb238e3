"""Steps whose loss is not finite: --on-nan, and losses that stand out.

    python on_nan_test.py <toy-stage> <launch.in> <bad-disk>

A row of the table holds values so large that its logits overflow, so a batch is bad if it has that token.
"""

import json
import os
import shutil
import sys
import unittest

from stage_programs import write_tensors
from toy_program import BATCH, HIDDEN, SEQ, Reference, ProgramFixture

ONE, FOUR, SPLIT = (1, 1, 1, 1), (2, 2, 1, 2), (1, 1, 2, 2)
BAD = 15


class OnNanTest(ProgramFixture):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.weights = dict(cls.weights)
        shape, values = cls.weights["table.weight"]
        cls.weights["table.weight"] = (shape, values[: BAD * HIDDEN] + [3e38] * HIDDEN)
        write_tensors(cls.path("weights.safetensors"), cls.weights)
        cls.windows = [[(3 * w * w + 5 * i + w * i * i) % BAD for i in range(SEQ)] for w in range(BATCH * 12)]

    def setUp(self):
        self.dir, self.csv, self.events = self.path("run"), self.path("run.csv"), self.path("events")
        for folder in (self.dir, self.events):
            shutil.rmtree(folder, ignore_errors=True)
        if os.path.exists(self.csv):
            os.remove(self.csv)

    def data(self, bad, left_out=()):
        """A file whose windows of these steps are bad, without some windows."""
        windows = [list(window) for window in self.windows]
        for step in bad:
            windows[BATCH * (step - 1) + 3][2] = BAD
        path = self.path("data.bin")
        with open(path, "wb") as file:
            file.write(bytes(sum((window for w, window in enumerate(windows) if w not in left_out), [])))
        return path

    def run_steps(self, plan, steps, *more, data=None, **how):
        options = ["--weights", self.path("weights.safetensors")] if "--load" not in more else []
        options += ["--data", data or self.path("data.bin"), "--lr", 0.02, "--clip-grad", 1, "--steps", steps]
        self.launch(plan, *options, "--log", self.csv, *more, **how)

    def saving(self, every=2):
        return ["--save", self.dir, "--save-every", every]

    def rows(self, path=None):
        return [row[:4] for row in self.log(path or self.csv)]

    def training(self, step):
        with open(f"{self.dir}/step_{step:06}/training.json") as file:
            return json.load(file)

    def files(self, step):
        contents = []
        for name in ("model.safetensors", "optimizer.safetensors"):
            with open(f"{self.dir}/step_{step:06}/{name}", "rb") as file:
                contents.append(file.read())
        return contents

    def events_of(self, rank, *names):
        with open(f"{self.events}/rank_{rank:05}.jsonl") as file:
            return [event for event in map(json.loads, file) if event["event"] in names]

    def test_stop_saves_the_state_before(self):
        self.data([4])
        self.run_steps(FOUR, 8, *self.saving(), code=72)
        self.assertRegex(self.errors, r"error: step 4: the loss is nan on rank \d \(stage 1\): ")
        self.assertEqual(self.errors.count("error: "), 1)
        self.assertEqual(sorted(os.listdir(self.dir)), ["latest", "step_000002", "step_000003"])
        self.assertEqual([row[0] for row in self.rows()], list("123"))
        # It goes on, also with another answer.
        self.run_steps(FOUR, 8, "--load", self.dir, *self.saving(), "--on-nan", "skip")
        rows, files = self.rows(), self.files(8)
        self.setUp()
        self.run_steps(FOUR, 8, *self.saving(), "--on-nan", "skip")
        self.assertEqual(self.rows(), rows)
        self.assertEqual(self.files(8), files)

    def test_stop_in_the_first_step(self):
        self.data([1])
        self.run_steps(SPLIT, 8, "--save", self.dir, code=72)
        with open(self.dir + "/training.json") as file:
            self.assertEqual(json.load(file)["step"], 0)
        self.assertIn("nothing was updated yet", self.errors)
        os.rename(self.dir, self.dir + "0")
        self.run_steps(SPLIT, 8, "--save", self.dir + "0", "--load", self.dir + "0", code=72)
        self.assertNotIn("saved  ", self.output)
        shutil.rmtree(self.dir + "0")

    def test_skip(self):
        self.data([4, 5])
        reference, rows = Reference(self.weights), []
        for step in range(1, 9):
            if step in (4, 5):
                continue
            loss, gradient = reference.gradients(self.windows[BATCH * (step - 1) : BATCH * step])
            rows.append(loss)
            reference.adamw(gradient, len(rows), 0.02, 0, 1)
        for plan in (ONE, FOUR, SPLIT):
            self.setUp()
            self.run_steps(plan, 8, *self.saving(), "--on-nan", "skip", "--events", self.events)
            self.assertEqual([self.rows()[i][1::2] for i in (3, 4)], [["nan", "nan"]] * 2)
            self.assertNear([float(row[1]) for row in self.rows() if row[1] != "nan"], rows, 1e-5)
            self.assertRegex(
                self.errors,
                r"^warning: step 4: the loss is nan on rank \d.*; it is skipped, and its samples 24 to 31 are used up\n",
            )
            last = self.training(8)
            told = {name: last[name] for name in ("step", "updates", "samples", "skipped", "left_out")}
            expected = {"step": 8, "updates": 6, "samples": 64, "skipped": [[24, 16]], "left_out": 0}
            self.assertEqual(told, expected)
            skips = self.events_of(0, "skip")
            self.assertEqual([(e["step"], e["first_sample"], e["samples"]) for e in skips], [(4, 24, 8), (5, 32, 8)])
            whole, files = self.rows(), self.files(8)
            # Stopped and continued, between the bad steps and behind them.
            for stop in (4, 6):
                self.setUp()
                self.run_steps(plan, stop, *self.saving(), "--on-nan", "skip")
                self.run_steps(plan, 8, *self.saving(), "--load", self.dir, "--on-nan", "skip")
                self.assertEqual((self.rows(), self.files(8)), (whole, files))
                self.assertEqual(self.training(8), last)

    def test_rewind(self):
        for plan in (FOUR, SPLIT):
            self.setUp()  # Back to step 2; what was tried since is left out.
            self.run_steps(plan, 7, *self.saving(), data=self.data([], left_out=range(16, 32)))
            whole, files = self.rows(), self.files(7)
            self.data([4])
            for stops in ((7,), (5, 7)):
                self.setUp()
                for steps in stops:
                    load = ["--load", self.dir] if os.path.exists(self.dir) else []
                    how = ["--on-nan", "rewind", "--events", self.events]
                    self.run_steps(plan, steps, *self.saving(), *load, *how)
                self.assertEqual((self.rows(), self.files(7)), (whole, files))
                told = {name: self.training(7)[name] for name in ("step", "updates", "samples", "skipped", "left_out")}
                expected = {"step": 7, "updates": 7, "samples": 72, "skipped": [[16, 16]], "left_out": 16}
                self.assertEqual(told, expected)
                (event,) = self.events_of(1, "rewind")
                self.assertEqual((event["step"], event["to_step"], event["next_sample"]), (4, 2, 32))
                self.assertEqual(event["from"], self.dir + "/step_000002")

    def test_rewind_to_the_start(self):
        self.run_steps(FOUR, 6, *self.saving(6), data=self.data([], left_out=range(32)))
        whole, files = self.rows(), self.files(6)
        self.setUp()
        self.data([4])
        self.run_steps(FOUR, 6, *self.saving(6), "--on-nan", "rewind")
        self.assertIn("back to step 0, the start of this run; the samples up to 31 are left out\n", self.errors)
        self.assertEqual((self.rows(), self.files(6)), (whole, files))
        # Back to the start twice; a run that was continued began where it was loaded, and a file goes round.
        self.setUp()
        self.data([2, 7])
        self.run_steps(FOUR, 5, *self.saving(5), "--on-nan", "rewind")
        self.run_steps(FOUR, 8, *self.saving(8), "--load", self.dir, "--on-nan", "rewind")
        self.assertEqual(self.training(8)["skipped"], [[0, 56], [96, 16]])
        self.assertEqual(self.training(8)["left_out"], 72)
        self.assertEqual([row[0] for row in self.rows()], list("12345678"))

    def test_a_rewind_that_ends_by_the_limit_is_gone_on_from(self):
        self.data([5, 6, 7])
        self.run_steps(ONE, 8, *self.saving(), "--on-nan", "rewind", code=72)
        self.assertEqual(self.training(4)["left_out"], 2 * BATCH)
        self.assertEqual(self.training(4)["samples"], 6 * BATCH)
        self.run_steps(ONE, 6, *self.saving(), "--load", self.dir, "--on-nan", "rewind")
        self.assertEqual(self.training(6)["left_out"], 3 * BATCH)

    def test_rewind_twice(self):
        self.data([4, 6])
        self.run_steps(ONE, 6, *self.saving(), "--on-nan", "rewind")
        # Step 3 took the samples of 5, and step 4 then those of 6.
        self.assertEqual(self.training(6)["skipped"], [[16, 32]])
        self.assertEqual([row[0] for row in self.rows()], list("123456"))

    def test_a_limit(self):
        self.data([3, 4, 5])
        self.run_steps(FOUR, 8, *self.saving(), "--on-nan", "skip", code=72)
        self.assertRegex(self.errors, "error: step 5: .*; it is the last of 3 in a row, which --nan-limit allows\n")
        self.assertEqual(self.training(4)["skipped"], [[16, 16]])
        self.setUp()
        self.run_steps(FOUR, 8, "--on-nan", "skip", "--nan-limit", 4)
        self.assertEqual([row[1] == "nan" for row in self.rows()], [False] * 2 + [True] * 3 + [False] * 3)
        # A step that is bad whatever it is given.
        self.setUp()
        self.data([])
        self.run_steps(FOUR, 8, "--on-nan", "rewind", *self.saving(1), word="nan", code=72)
        self.assertEqual(self.errors.count("back to step 1, "), 2)
        self.assertRegex(self.errors, "error: step 2: .*; it is the last of 3 in a row")
        for words, message in [
            (["--on-nan", "go"], "--on-nan expects stop, skip or rewind, but got 'go'"),
            (["--nan-limit", 0], "--nan-limit expects a whole number from 1 on, but got '0'"),
        ]:
            self.run_steps(ONE, 8, *words, code=1)
            self.assertIn(message, self.errors)

    def test_parameters_that_are_not_finite(self):
        """A state that no run could go on from is neither saved nor gone back to."""
        self.data([])
        huge = ["--optimizer", "sgd", "--lr-schedule", "linear", "--clip-grad", 0]
        self.run_steps(FOUR, 8, *huge, "--lr", 1e39, "--save", self.dir, code=72)
        self.assertRegex(self.errors, "error: step 2: .*; this state is not saved, as no run could go on from it\n")
        self.assertFalse(os.path.exists(self.dir))
        self.run_steps(FOUR, 8, *huge, "--lr", 1e39, *self.saving(1), "--on-nan", "rewind", code=72)
        self.assertRegex(self.errors, "passed over a checkpoint: .*step_000001: the parameters? .*are not finite\n")
        self.assertIn("step_000001.not_finite", os.listdir(self.dir))
        shutil.rmtree(self.dir)
        os.makedirs(self.dir + "/step_000001.not_finite/of others")
        self.run_steps(FOUR, 8, *huge, "--lr", 1e39, *self.saving(1), "--on-nan", "rewind", code=72)
        self.assertRegex(self.errors, "error: step 2: .*; cannot go back: cannot rename .*step_000001")

    def test_start_values(self):
        shape, values = self.weights["head.bias"]
        weights = dict(self.weights) | {"head.bias": (shape, values[:-1] + [float("inf")])}
        write_tensors(self.path("bad.safetensors"), weights)
        self.data([])
        options = ["--data", self.path("data.bin"), "--steps", 1, "--weights", self.path("bad.safetensors")]
        self.launch(SPLIT, *options, code=72)
        message = "^warning: .*bad.safetensors: the parameter head.bias is not finite\n"
        self.assertRegex(self.errors, message)

    def test_spikes(self):
        """Thirty equal batches, then one of what was never seen."""
        with open(self.path("same.bin"), "wb") as file:
            file.write(bytes([1, 2] * (SEQ // 2) * BATCH * 30 + [7, 9, 3, 14] * (SEQ // 4) * BATCH))
        weights = dict(self.weights) | {"head.bias": ([BAD + 1], [0] + [5] * 2 + [0] * (BAD - 2))}
        write_tensors(self.path("likes two.safetensors"), weights)
        options = ["--data", self.path("same.bin"), "--steps", 31, "--events", self.events, "--lr", 1e-3]
        options += ["--weights", self.path("likes two.safetensors")]
        self.launch(FOUR, *options)
        self.assertRegex(
            self.errors, r"^warning: step 31: the loss \S+ is a spike: .* on average, with a standard deviation of \S+\n"
        )
        (event,) = self.events_of(3, "spike")
        self.assertEqual(event["step"], 31)
        self.assertGreater(event["loss"], event["mean"] + 6 * event["deviation"])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[4:], verbosity=2)
