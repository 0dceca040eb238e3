"""--trace: every entry of the traced steps on every rank, on one clock, in one file that a viewer opens.

    python step_trace_test.py <toy-stage> <launch.in> <bad-disk>
"""

import json
import os
import sys
import unittest
from collections import Counter

from toy_program import BAD_DISK, ProgramFixture

FOUR = (2, 2, 1, 2)


class StepTraceTest(ProgramFixture):
    def setUp(self):
        self.file = self.path("trace.json")
        if os.path.exists(self.file):
            os.remove(self.file)

    def trace(self, plan, *options, code=0, word=""):
        self.launch(plan, "--data", self.path("tokens.bin"), "--trace", self.file, *options, code=code, word=word)
        with open(self.file) as file:
            trace = json.load(file)
        self.assertFalse(os.path.exists(self.file + ".part"))
        self.head = trace["galvatron"]
        self.events = trace["traceEvents"]
        self.spans = [event for event in self.events if event["ph"] == "X"]
        return self.spans

    def test_every_entry_of_every_step(self):
        spans = self.trace(FOUR, "--steps", 7)
        self.assertEqual({span["args"]["step"] for span in spans}, {3, 4, 5})
        self.assertEqual((self.head["kind"], self.head["ranks"], self.head["steps"]), ("measured", 4, [3, 5]))
        self.assertGreater(self.head["step_seconds"], 0)
        self.assertGreater(self.head["clock_error_us"], 0)
        for rank in range(4):
            own = [span for span in spans if span["pid"] == rank and span["args"]["step"] == 4]
            entries = [span["args"]["entry"] for span in own]
            # Then the sums of all ranks and the update, which are no entries.
            self.assertEqual(entries, [*range(len(entries) - 2), -1, -1])
            self.assertEqual([span["name"] for span in own[-2:]], ["loss and gradient norm", "update"])
            self.assertEqual(own[-1]["cat"], "update")
            self.assertEqual({span["args"]["stage"] for span in own}, {rank // 2})
            starts = [span["ts"] for span in own]
            self.assertEqual(starts, sorted(starts))
            for before, after in zip(own, own[1:]):
                # In nanoseconds: viewers drop what begins before the one before it ends.
                end = round(before["ts"] * 1000) + round(before["dur"] * 1000)
                self.assertLessEqual(end, round(after["ts"] * 1000), before["name"])

    def test_what_entries_are(self):
        by_name = {span["name"]: span for span in self.trace(FOUR, "--steps", 1, "--trace-steps", "1:1")}
        threads = {
            (event["pid"], event["tid"]): event["args"]["name"] for event in self.events if event["name"] == "thread_name"
        }
        for name, category, stream, size, micro_batch in (
            ("zero loss", "compute", "compute", 4, -1),
            ("send x", "send", "to stage 1", 2 * 8 * 6 * 4, 1),
            ("wait for x", "send", "compute", 0, 1),
            ("receive dx", "receive", "from stage 1", 2 * 8 * 6 * 4, 1),
            ("logits", "compute", "compute", 0, 1),
            ("all-reduce dtable", "collective", "gradients", 16 * 6 * 4, -1),
            ("loss and gradient norm", "collective", "collectives", 0, -1),
        ):
            span = by_name[name]
            self.assertEqual(span["cat"], category, name)
            self.assertEqual(threads[span["pid"], span["tid"]], stream, name)
            self.assertEqual((span["args"]["bytes"], span["args"]["micro_batch"]), (size, micro_batch), name)

    def test_arrows_lead_from_sends_to_receives(self):
        self.trace((2, 2, 1, 2), "--steps", 5)
        sent = {event["id"]: event for event in self.events if event["ph"] == "s"}
        received = {event["id"]: event for event in self.events if event["ph"] == "f"}
        # Two micro-batches, forward and backward, of two devices in three steps.
        self.assertEqual(len(sent), 2 * 2 * 2 * 3)
        self.assertEqual(sent.keys(), received.keys())
        self.assertEqual(sum(event["ph"] in "sf" for event in self.events), 2 * len(sent))
        for key, start in sent.items():
            end = received[key]
            self.assertEqual(abs(start["pid"] - end["pid"]), 2)
            self.assertGreaterEqual(end["ts"], start["ts"] - self.head["clock_error_us"])
            for event, category in ((start, "send"), (end, "receive")):
                at = [
                    span
                    for span in self.spans
                    if (span["pid"], span["tid"]) == (event["pid"], event["tid"])
                    and span["ts"] <= event["ts"] < span["ts"] + span["dur"]
                ]
                self.assertEqual(Counter(span["cat"] for span in at)[category], 1)

    def test_which_steps(self):
        for options, steps in ((["--steps", 2], {2}), (["--steps", 4], {3, 4}), (["--steps", 3, "--trace-steps", "2:9"], {2, 3})):
            self.assertEqual({span["args"]["step"] for span in self.trace((1, 2, 1, 2), *options)}, steps)

    def test_a_run_that_ends_early_leaves_what_it_traced(self):
        spans = self.trace((1, 2, 1, 2), "--steps", 10**6, "--max-seconds", 0.001, "--trace-steps", "1:50", code=75)
        self.assertEqual({span["args"]["step"] for span in spans}, {1})
        spans = self.trace((1, 2, 1, 2), "--steps", 3, "--trace-steps", "1:3", word="nan", code=72)
        self.assertEqual({span["args"]["step"] for span in spans}, {1, 2})

    def test_training_is_the_same(self):
        plain = self.train(FOUR, "--data", self.path("tokens.bin"), "--steps", 4)
        traced = self.train(FOUR, "--data", self.path("tokens.bin"), "--steps", 4, "--trace", self.file)
        self.assertEqual([row[:4] for row in plain], [row[:4] for row in traced])

    def test_refuses(self):
        os.mkfifo(self.path("pipe"))
        for options, message in (
            (["--trace-steps", "1:2"], "--trace-steps says what to trace, but not where to; give --trace FILE"),
            (["--trace", self.file, "--trace-steps", "5"], "--trace-steps expects the first and the last step as in 3:5, but got '5'"),
            (["--trace", self.file, "--trace-steps", "3:2"], "--trace-steps expects the first and the last step as in 3:5, but got '3:2'"),
            (
                ["--trace", self.file, "--trace-steps", "5:6", "--steps", 4],
                "--trace-steps 5:6 names none of the steps that this run trains, 1 to 4; name some of them",
            ),
            (["--trace", self.path("none") + "/t.json"], "/t.json: No such file or directory; name another with --trace"),
            (["--trace", self.path("pipe")], f"expects --trace to name a file, but {self.path('pipe')} is none; name another"),
            (["--trace", self.path("")], f"expects --trace to name a file, but {self.path('')} is a folder; name a file in it"),
            (["--trace", self.file, "--eval-only"], "--trace is of a run that trains, but --eval-only does not"),
        ):
            self.launch((1, 2, 1, 2), *options, code=1)
            self.assertIn(message, self.errors)
            self.assertFalse(os.path.exists(self.file))

    def test_a_disk_that_is_full_at_the_end(self):
        """What then cannot take its name: the run is trained all the same, and says so."""
        disk = {"LD_PRELOAD": BAD_DISK, "DISK_KEEPS_NAME": self.file + ".part"}
        self.launch((1, 2, 1, 2), "--steps", 3, "--trace", self.file, environment=disk)
        self.assertIn(f"cannot write the trace {self.file}: Device or resource busy", self.errors)
        self.assertFalse(os.path.exists(self.file) or os.path.exists(self.file + ".part"))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[4:], verbosity=2)
