"""Event files for TensorBoard: read by a reader written here, and by TensorBoard's own where that is installed, across
runs that go on and steps that are done again.

    python tensorboard_test.py <toy-stage> <launch.in> <bad-disk>
"""

import importlib.util
import json
import os
import shutil
import struct
import sys
import unittest

from toy_program import ProgramFixture

FOUR = (2, 2, 1, 2)
TAGS = {"loss": "train/loss", "lr": "train/lr", "grad_norm": "train/grad_norm"}
TAGS |= {"tokens_per_second": "speed/tokens_per_second", "peak_bytes": "memory/peak_bytes"}


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def records(path):
    with open(path, "rb") as file:
        while header := file.read(12):
            size, check = struct.unpack("<QI", header)
            assert check == crc32c(header[:8])
            data = file.read(size)
            assert struct.unpack("<I", file.read(4)) == (crc32c(data),)
            yield data


def fields(message):
    """Protobuf's wire format: number -> values."""
    at, found = 0, {}

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        key = varint()
        number, kind = key >> 3, key & 7
        size = {1: 8, 5: 4}.get(kind)
        if kind == 0:
            value = varint()
        else:
            size = varint() if kind == 2 else size
            value = message[at : at + size]
            at += size
        found.setdefault(number, []).append(value)
    return found


def read(folder):
    """tag -> step -> values of all files, without what a later session does again."""
    scalars = {}
    for name in sorted(os.listdir(folder)):
        events = [fields(record) for record in records(os.path.join(folder, name))]
        assert events[0][3] == [b"brain.Event:2"]
        assert fields(events[1][7][0])[1] == [1]
        (start,) = events[1][2]
        for values in scalars.values():
            for step in [step for step in values if step >= start]:
                del values[step]
        for event in events[2:]:
            for value in fields(event[5][0])[1]:
                entry = fields(value)
                (number,) = struct.unpack("<f", entry[2][0])
                scalars.setdefault(entry[1][0].decode(), {}).setdefault(event[2][0], []).append(number)
    return scalars


def read_with_tensorboard(folder):
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

    accumulator = EventAccumulator(folder, size_guidance={SCALARS: 0})
    accumulator.Reload()
    scalars = {}
    for tag in accumulator.Tags()["scalars"]:
        for event in accumulator.Scalars(tag):
            scalars.setdefault(tag, {}).setdefault(event.step, []).append(event.value)
    return scalars


class TensorBoardTest(ProgramFixture):
    def setUp(self):
        self.dir, self.board, self.csv = self.path("run"), self.path("board"), self.path("run.csv")
        for folder in (self.dir, self.board):
            shutil.rmtree(folder, ignore_errors=True)

    def run_steps(self, steps, *more, **how):
        options = ["--data", self.path("tokens.bin"), "--lr", 0.05, "--tensorboard", self.board, "--log", self.csv]
        save = ["--save", self.dir, "--save-every", 2] + (["--load", self.dir] if os.path.exists(self.dir) else [])
        self.launch(FOUR, *options, "--steps", steps, *save, *more, **how)

    def assertAsLogged(self):
        rows, scalars = self.log(self.csv), read(self.board)
        for column, name in enumerate(["loss", "lr", "grad_norm", "tokens_per_second", "peak_bytes"], 1):
            expected = {int(row[0]): [struct.unpack("<f", struct.pack("<f", float(row[column])))[0]] for row in rows}
            self.assertEqual(list(scalars[TAGS[name]]), list(expected))
            for step, (value,) in scalars[TAGS[name]].items():
                self.assertAlmostEqual(value, expected[step][0], delta=1e-6 * abs(value))

    def test_a_run_that_goes_on(self):
        self.run_steps(3)
        self.run_steps(5)
        # From an earlier one: step 5 is done again, though the clock may not have moved.
        shutil.rmtree(self.dir + "/step_000005")
        self.run_steps(6)
        self.assertEqual(len(os.listdir(self.board)), 3)
        self.assertAsLogged()
        self.assertNotIn("speed/tflops", read(self.board))
        if importlib.util.find_spec("tensorboard"):
            self.assertEqual(read_with_tensorboard(self.board), read(self.board))

    def test_speeds(self):
        with open(os.path.join(self.program(FOUR), "plan.json"), "w") as file:
            json.dump({"model_flops_per_step": 4e6, "peak_flops_per_second": 1e9}, file)
        self.run_steps(3)
        os.remove(os.path.join(self.program(FOUR), "plan.json"))
        scalars = read(self.board)
        for (speed,), (tokens,), (share,) in zip(
            *(scalars[tag].values() for tag in ("speed/tflops", "speed/tokens_per_second", "speed/mfu"))
        ):
            # 64 tokens a step, four devices.
            self.assertAlmostEqual(speed, 4e6 / 4 / (64 / tokens) / 1e12, delta=1e-5 * speed)
            self.assertAlmostEqual(share, speed * 1e12 / 1e9, delta=1e-5 * share)
        self.assertRegex(self.output, r"step 2/3  loss .* tokens/s  \S+ KiB  \S+ TFLOP/s  MFU \S+ %  ETA \d+:\d\d\n")

    def test_rewound(self):
        self.run_steps(6, "--on-nan", "rewind", "--nan-limit", 2, word="nan", code=72)
        self.assertEqual(list(read(self.board)["train/loss"]), [1])

    def test_places_that_cannot_be_written(self):
        self.run_steps(1, "--tensorboard", self.path("tokens.bin") + "/deep", code=1)
        self.assertRegex(self.errors, "^error: --tensorboard: cannot write to the folder .*/deep: Not a directory; name another one\n")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[4:], verbosity=2)
