"""Weights and checkpoints in several files with an index, as transformers has them.

    python shards_test.py <toy-stage> <launch.in> <bad-disk>
"""

import json
import os
import shutil
import struct
import subprocess
import sys
import unittest

from stage_programs import read_tensors, write_tensors
from toy_program import ProgramFixture

ONE, FOUR = (1, 1, 1, 1), (2, 2, 1, 2)
INDEX = "model.safetensors.index.json"


class ShardsTest(ProgramFixture):
    def options(self, *more):
        return ["--data", self.path("tokens.bin"), "--lr", 0.05, "--seed", 3, "--shuffle", *more]

    def merge(self, folder, stem="model"):
        """The tensors of all shards, by the index."""
        with open(f"{folder}/{stem}.safetensors.index.json") as file:
            index = json.load(file)
        merged = {}
        for name, shard in index["weight_map"].items():
            merged[name] = read_tensors(f"{folder}/{shard}")[name]
        self.assertEqual(index["metadata"]["total_size"], 4 * sum(len(values) for _, values in merged.values()))
        return merged

    def test_a_sharded_checkpoint_is_the_same_one(self):
        whole, sharded, run = self.path("whole"), self.path("sharded"), self.path("run")
        self.launch(FOUR, *self.options("--steps", 3, "--save", whole))
        self.launch(FOUR, *self.options("--steps", 3, "--save", sharded, "--shard-size", "400B"))
        names = [f"{stem}-0000{i}-of-0000{n}.safetensors" for stem, n in (("model", 3), ("optimizer", 5)) for i in range(1, n + 1)]
        others = [INDEX, "optimizer.safetensors.index.json", "checksums.xxh128", "tensors.json", "training.json"]
        self.assertEqual(sorted(os.listdir(sharded)), sorted(names + others))
        for stem in ("model", "optimizer"):
            self.assertEqual(self.merge(sharded, stem), read_tensors(f"{whole}/{stem}.safetensors"))
        subprocess.run(["xxh128sum", "-c", "checksums.xxh128"], cwd=sharded, stdout=subprocess.DEVNULL, check=True)
        # It goes on under any plan, whole or in other pieces, and takes the place of what was there.
        go_on = self.options("--steps", 5, "--log", self.path("log.csv"), "--save-every", 1, "--keep", 1)
        self.launch(FOUR, *go_on, "--load", whole, "--save", run, "--shard-size", "64KiB")
        expected = run + "/step_000005/model.safetensors"
        self.launch(FOUR, *self.options("--steps", 5), "--load", sharded, "--save", sharded, "--shard-size", "600B")
        self.assertEqual(self.merge(sharded), read_tensors(expected))
        self.assertEqual(len([name for name in os.listdir(sharded) if name.startswith("optimizer-")]), 4)
        self.launch(ONE, *self.options("--steps", 6), "--load", sharded)
        self.assertEqual(self.errors, "")
        os.remove(sharded + "/optimizer-00001-of-00004.safetensors")
        self.launch(ONE, *self.options("--steps", 6), "--load", sharded, code=1)
        self.assertIn("optimizer-00001-of-00004.safetensors is missing, but checksums.xxh128 names it; copy the whole checkpoint again", self.errors)

    def make_folder(self, shards, names=lambda name: name):
        """A folder of weights, each of these lists a shard."""
        folder = self.path("weights")
        shutil.rmtree(folder, ignore_errors=True)
        os.mkdir(folder)
        weight_map = {}
        for i, shard in enumerate(shards):
            file = f"model-0000{i + 1}-of-0000{len(shards)}.safetensors"
            write_tensors(f"{folder}/{file}", {names(name): self.weights[name] for name in shard})
            weight_map |= {names(name): file for name in shard}
        with open(f"{folder}/{INDEX}", "w") as file:
            json.dump({"metadata": {}, "weight_map": weight_map}, file)
        return folder

    def test_weights_of_a_folder(self):
        options = self.options("--steps", 2)
        expected = self.train(FOUR, *options, "--weights", self.path("weights.safetensors"))
        shards = [["table.weight"], ["head.weight", "head.bias"]]
        # As they are; with a base model's prefix in addition.
        for names in (lambda name: name, lambda name: "model." + name):
            folder = self.make_folder(shards, names)
            self.assertEqual([r[:4] for r in self.train(FOUR, *options, "--weights", folder)], [r[:4] for r in expected])
            self.assertEqual(self.errors, "")
        folder = self.make_folder(shards)
        os.remove(folder + "/model-00002-of-00002.safetensors")
        self.launch(FOUR, *options, "--weights", folder, code=1)
        self.assertRegex(self.errors, f"model-00002-of-00002.safetensors is missing, but .*{INDEX} says that it holds head.b")
        self.assertEqual(self.errors.count("error: "), 1)
        self.make_folder([["table.weight"], ["head.weight"]])
        self.launch(FOUR, *options, "--weights", folder, code=1)
        self.assertRegex(self.errors, "weights has no tensor head.bias, which the model needs")
        self.launch(FOUR, *options, "--weights", self.path("."), code=1)
        self.assertRegex(self.errors, f"has neither model.safetensors nor {INDEX}; name a file of weights, or a folder")

    def test_halves(self):
        folder = self.make_folder([["table.weight"], ["head.weight", "head.bias"]])
        with open(folder + "/model-00001-of-00002.safetensors", "rb") as file:
            length = struct.unpack("<Q", file.read(8))[0]
            header, values = json.loads(file.read(length)), file.read()
        count = len(values) // 4
        halves = b"".join(values[4 * i + 2 : 4 * i + 4] for i in range(count))
        header["table.weight"] |= {"dtype": "BF16", "data_offsets": [0, 2 * count]}
        text = json.dumps(header).encode()
        with open(folder + "/model-00001-of-00002.safetensors", "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text + halves)
        halved = b"".join(b"\0\0" + halves[2 * i : 2 * i + 2] for i in range(count))
        write_tensors(self.path("halved.safetensors"), self.weights | {"table.weight": ([16, 6], list(struct.unpack(f"<{count}f", halved)))})
        expected = self.train(ONE, *self.options("--steps", 1), "--weights", self.path("halved.safetensors"))
        self.assertEqual([r[:4] for r in self.train(FOUR, *self.options("--steps", 1), "--weights", folder)][0][0], "1")
        self.assertNear([float(v) for v in self.log(self.path("log.csv"))[0][1:3]], [float(v) for v in expected[0][1:3]])

    def test_sizes(self):
        for size in ("5", "GB", "-1GB", "5 GB", "0MB", "5XB", "5kb", "99999999999TB"):
            self.launch(ONE, f"--shard-size={size}", code=1)
            self.assertIn(f"--shard-size expects a size above 0 as in 5GB, 200MB or 64KiB, but got '{size}'", self.errors)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[4:], verbosity=2)
