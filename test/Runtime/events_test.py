"""What a run tells programs: a line of JSON for each thing that happened, per rank, across runs.

    python events_test.py <toy-stage> <launch.in> <bad-disk>
"""

import json
import os
import shutil
import socket
import sys
import unittest

from toy_program import ProgramFixture

FOUR = (2, 2, 1, 2)


class EventsTest(ProgramFixture):
    def setUp(self):
        self.dir, self.events = self.path("run"), self.path("events")
        for folder in (self.dir, self.events):
            shutil.rmtree(folder, ignore_errors=True)

    def options(self, *more):
        return ["--data", self.path("tokens.bin"), "--lr", 0.05, "--events", self.events, *more]

    def read(self, rank):
        with open(f"{self.events}/rank_{rank:05}.jsonl") as file:
            return [json.loads(line) for line in file]

    def named(self, rank):
        return [(event["event"], event["step"]) for event in self.read(rank)]

    def test_continued_across_runs(self):
        save = ["--save", self.dir, "--load", self.dir, "--save-every", 2]
        self.launch(FOUR, *self.options("--steps", 2, *save))
        first = [("start", 0), ("step", 1), ("step", 2), ("save", 2), ("saved", 2), ("end", 2)]
        self.assertEqual(sorted(os.listdir(self.events)), [f"rank_{rank:05}.jsonl" for rank in range(4)])
        with open(self.events + "/rank_00001.jsonl", "a") as file:
            file.write('{"time":17')  # as a killed run may leave it
        self.launch(FOUR, *self.options("--steps", 3, *save))
        for rank in range(4):
            second = [("start", 2), ("load", 2), ("step", 3), ("save", 3), ("saved", 3), ("end", 3)]
            self.assertEqual(self.named(rank), first + second)
            events = self.read(rank)
            for event in events:
                place = (event["rank"], event["stage"], event["host"])
                self.assertEqual(place, (rank, rank // 2, socket.gethostname()))
            times = [event["time"] for event in events]
            self.assertEqual(times, sorted(times))
            self.assertEqual(events[0]["ranks"], 4)
            self.assertEqual(events[4]["folder"], self.dir + "/step_000002")
            self.assertEqual({name: events[5][name] for name in ("code", "reason")}, {"code": 0, "reason": ""})
            self.assertEqual(events[1]["lr"], 0.05)

    def test_ends(self):
        self.launch(FOUR, *self.options("--steps", 10**9, "--max-seconds", 0.001), code=75)
        self.assertEqual(self.named(2), [("start", 0), ("step", 1), ("signal", 1), ("end", 1)])
        self.assertEqual(self.read(2)[2]["reason"], "--max-seconds")
        self.launch(FOUR, *self.options("--steps", 3), word="nan", code=72)
        end = self.read(0)[-1]
        self.assertEqual((end["step"], end["code"]), (1, 72))
        self.assertIn("step 2: the loss is nan on rank 3", end["reason"])
        self.launch(FOUR, *self.options("--steps", 3), word="mpi", code=70)
        self.assertEqual(self.read(3)[-1]["event"], "end")
        self.assertIn("rank 3", self.read(3)[-1]["reason"])

    def test_places_that_cannot_be_written(self):
        self.launch(FOUR, *self.options("--steps", 1, "--events", self.path("tokens.bin") + "/deep"), code=1)
        self.assertRegex(self.errors, "^error: --events: cannot write to the folder .*/deep: Not a directory; name another one\n")
        # A disk that is full: told once by each rank, and the run goes on.
        os.mkdir(self.events)
        os.symlink("/dev/full", self.events + "/rank_00000.jsonl")
        self.launch(FOUR, *self.options("--steps", 3, "--log", "/dev/full"))
        for what in ("the events", "the log"):
            self.assertEqual(self.errors.count(f"error: cannot write {what} "), 1, self.errors)
        self.assertIn("; what it lacks is kept and tried again", self.errors)
        self.assertEqual(self.named(1)[-1], ("end", 3))
        for rank in (0, 2):
            os.remove(f"{self.events}/rank_{rank:05}.jsonl")
        os.mkdir(self.events + "/rank_00002.jsonl")
        self.launch(FOUR, *self.options("--steps", 1), code=1)
        self.assertRegex(self.errors, "^error: --events: cannot open the events .*rank_00002.jsonl: Is a directory; name another place\n")
        self.assertEqual(self.named(0), [("end", 0)])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[4:], verbosity=2)
