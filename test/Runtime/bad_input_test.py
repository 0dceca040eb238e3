"""Every bad input to a stage binary: one message, exit code 1 on every rank, nothing left behind.

    python bad_input_test.py <toy-stage> <launch.in> <bad-disk>
"""

import array
import os
import shutil
import sys
import unittest

from stage_programs import read_tensors, write_tensors
from toy_program import BATCH, SEQ, VOCABULARY, ProgramFixture


class BadInputTest(ProgramFixture):
    def fails(self, places, message, options=(), plan=(2, 2, 1, 2), word=""):
        """`places`: (ranks, stage) in mpirun's order. Every rank's exit code is written down."""
        codes = self.path("codes")
        if os.path.exists(codes):
            os.remove(codes)
        command = ["mpirun"]
        for ranks, stage in places:
            script = f'"$@"; echo $? >> {codes}'
            command += [":"] * (len(command) > 1)
            command += ["-np", str(ranks), "sh", "-c", script, "sh", f"{self.program(plan, word)}/stage{stage}"]
            command += [str(option) for option in options]
        before = sorted(os.listdir(self.folder))
        result = self.mpirun(command)
        self.assertRegex(result.stderr, message)
        self.assertEqual(result.stderr.count("error: "), 1, result.stderr)
        with open(codes) as file:
            self.assertEqual(file.read().split(), ["1"] * sum(ranks for ranks, _ in places))
        self.assertEqual(sorted(set(os.listdir(self.folder)) - {"codes"}), [n for n in before if n != "codes"])

    def test_wrong_ranks(self):
        self.program((2, 2, 1, 2))
        self.fails([(1, 0)], r"needs 4 ranks \(2 stages of 2 devices\), but 1 was started(.|\n)*-np 2 .*/stage0")
        self.fails([(2, 0)], "needs 4 ranks .* but 2 were started")
        self.fails([(3, 0), (2, 1)], "needs 4 ranks .* but 5 were started")
        self.fails([(2, 1), (2, 0)], r"rank 0 must run stage 0, but runs stage 1(.|\n)*mpirun -np 2 .*stage0")
        self.fails([(3, 0), (1, 1)], "rank 2 must run stage 1, but runs stage 0")

    def test_stages_of_different_programs_or_options(self):
        self.program((2, 1, 1, 4))
        self.program((2, 1, 1, 2))
        stages = [self.program((2, 1, 1, 4)) + "/stage0", self.program((2, 1, 1, 2)) + "/stage1"]
        result = self.mpirun(["mpirun", "-np", "1", stages[0], ":", "-np", "1", stages[1]])
        self.assertRegex(result.stderr, "rank 1 runs a stage of another program than rank 0")
        self.assertNotEqual(result.returncode, 0)
        stages[1] = self.program((2, 1, 1, 4)) + "/stage1"
        result = self.mpirun(["mpirun", "-np", "1", stages[0], "--steps", "1", ":", "-np", "1", stages[1]])
        self.assertRegex(result.stderr, r"rank 1 \(stage 1\) was given other options than rank 0")
        self.assertNotEqual(result.returncode, 0)

    def test_compiled_for_other_functions(self):
        self.program((2, 2, 1, 2), "old")
        message = r"compiled for runtime ABI (4\.[0-9a-f]{8}), but the runtime has ABI (?!\1)4\.[0-9a-f]{8}; compile it again"
        self.fails([(2, 0), (2, 1)], message, word="old")

    def option_fails(self, message, *options):
        self.fails([(2, 0), (2, 1)], message, options)

    def test_options(self):
        self.program((2, 2, 1, 2))
        for options, message in [
            (["--stepz", "3"], "there is no option '--stepz'; --help lists them"),
            (["--steps", "0"], "--steps expects a whole number from 1 on, but got '0'"),
            (["--steps", "9223372036854775807"], "--steps expects a whole number of at most 1000000000000, but got"),
            (["--steps", "3.5"], "--steps expects a whole number"),
            (["--steps"], "--steps expects a value after it"),
            (["--lr", "fast"], "--lr expects a number from 0 on, but got 'fast'"),
            (["--betas", "0.9,1"], "--betas expects a number from 0 to below 1, but got '1'"),
            (["--optimizer", "adam"], "--optimizer expects adamw or sgd, but got 'adam'"),
            (["--lr-schedule=cosine", "--lr=0.1", "--min-lr=1"], "--min-lr 1 is above --lr 0.1; give a rate that --lr"),
            (["--lr-schedule=step"], "--lr-schedule expects constant, linear, cosine, inverse-square-root or WSD, but got 'step'"),
            (["--seed", "-1"], "--seed expects a whole number from 0 on"),
        ]:
            with self.subTest(options=options):
                self.option_fails(message, *options)

    def test_data(self):
        self.program((2, 2, 1, 2))
        name = "; name a file of token ids, or the PREFIX of a PREFIX.bin and PREFIX.idx"
        self.option_fails("error: --data: cannot open nowhere.bin: No such file or directory" + name, "--data", "nowhere.bin")
        bad = self.path("bad.bin")
        with open(bad, "wb") as file:
            file.write(bytes(SEQ * BATCH - 1))
        self.option_fails("bad.bin has 63 tokens, but one batch needs 8 windows of 8, 64 tokens; use a longer file", "--data", bad)
        with open(bad, "wb") as file:
            file.write(bytes(100) + bytes([VOCABULARY]) + bytes(200))
        message = r"bad.bin: token 100 is 16, outside the vocabulary of 16"
        self.option_fails(message, "--data", bad, "--save", self.path("never"), "--log", self.path("never.csv"))
        # A token that no window of this run holds: behind the last whole one.
        with open(bad, "wb") as file:
            file.write(bytes(SEQ * BATCH * 4) + bytes([0, VOCABULARY]))
        self.option_fails(f"bad.bin: token {SEQ * BATCH * 4 + 1} is 16", "--data", bad, "--steps", 1)
        with open(bad, "wb") as file:
            file.write(bytes(301))
        self.option_fails("which is no whole number of u16 tokens", "--data", bad, "--data-dtype", "u16")
        self.option_fails("has no tensor input_ids; each shard has all inputs of the program", "--data", self.folder)
        with open(bad, "wb") as file:
            file.write(array.array("q", self.tokens).tobytes())
        message = r"bad.bin looks like integers of 64 bits: .* \(read as u8\); pass --data-dtype i64; .* after all, say so with --data-dtype u8"
        self.option_fails(message, "--data", bad)
        # A type that was asked for is believed, but the doubt is told with the error that follows.
        with open(bad, "wb") as file:
            file.write(b"\x93NUMPY\1\0v\0{'descr': '|u1'}" + bytes(self.tokens))
        message = r"warning: .*bad.bin is a NumPy file(.|\n)*error: .*bad.bin: token 0 is 147, outside"
        self.option_fails(message, "--data", bad, "--data-dtype", "u8")
        os.remove(bad)

    def test_weights(self):
        self.program((2, 2, 1, 2))
        bad = self.path("bad.safetensors")
        weights = dict(self.weights)
        del weights["head.bias"]
        write_tensors(bad, weights)
        self.option_fails("bad.safetensors has no tensor head.bias", "--weights", bad)
        weights["head.bias"] = ([VOCABULARY, 1], self.weights["head.bias"][1])
        write_tensors(bad, weights)
        self.option_fails(r"bad.safetensors: expects tensor head.bias of shape \[16\], but got \[16, 1\]", "--weights", bad)
        shutil.copy(self.path("weights.safetensors"), bad)
        os.truncate(bad, 500)
        self.option_fails("bad.safetensors.*truncated", "--weights", bad)
        name = "; name a file of weights, or a folder that has one or an index"
        self.option_fails("error: --weights: cannot open nowhere: No such file or directory" + name, "--weights", "nowhere")
        # Two names of one parameter, and only the last element differs.
        shape, values = self.weights["head.weight"]
        write_tensors(bad, self.weights | {"head.weight.tied": (shape, values[:-1] + [values[-1] + 1])})
        message = "bad.safetensors: head.weight and head.weight.tied differ, but are one parameter of this program"
        self.option_fails(message, "--weights", bad)
        os.remove(bad)

    def test_places_that_cannot_be_written(self):
        self.program((2, 2, 1, 2))
        file = self.path("tokens.bin")
        self.option_fails("tokens.bin", "--save", file)
        message = "error: --save: cannot create .*tokens.bin/deeper{}: Not a directory; name another folder"
        self.option_fails(message.format(".lock"), "--save", file + "/deeper")
        self.option_fails(message.format(""), "--save", file + "/deeper", "--save-every", 1)
        for folder in (".", "/", os.path.dirname(os.getcwd()), "/proc"):
            self.option_fails("--save expects a folder that a new one can replace, but .*; name a folder in it", "--save", folder)
        message = "error: --log: cannot open the log .*tokens.bin/log: Not a directory; name another place"
        self.option_fails(message, "--log", file + "/log")
        for option in ("--dump-gradients", "--dump-batches"):
            message = f"error: {option}: cannot write to the folder .*tokens.bin: .*; name another one"
            self.option_fails(message, option, file)

    def test_checkpoints(self):
        self.program((2, 2, 1, 2))
        message = "error: --load: .* is not a checkpoint: .*training.json is missing; name a folder that --save wrote"
        for folder in (self.folder, "nowhere"):
            self.option_fails(message, "--load", folder)
        self.train((1, 1, 1, 1), "--steps", 1, "--optimizer", "sgd", "--save", self.path("sgd"))
        self.option_fails("so --weights cannot be given too", "--load", self.path("sgd"), "--weights", "y")
        self.option_fails("has no moments for adamw; pass the same optimizer", "--load", self.path("sgd"))
        done = ["--optimizer", "sgd", "--load", self.path("sgd"), "--steps", 1, "--save", self.path("more")]
        self.option_fails("sgd is at step 1, so nothing is left to train to step 1; .* pass --steps 2 for 1 more", *done)

    def test_a_checkpoint_without_moments_of_a_parameter(self):
        self.program((2, 2, 1, 2))
        save = self.path("frozen")
        self.train((1, 1, 1, 1), "--steps", 1, "--save", save)
        moments = read_tensors(save + "/optimizer.safetensors")
        write_tensors(save + "/optimizer.safetensors", {n: t for n, t in moments.items() if "head.bias" not in n})
        os.remove(save + "/checksums.xxh128")
        message = "has no moments of head.bias, which was frozen, or not there, when it was written; start from its"
        self.option_fails(message, "--load", save, "--steps", 2)

    def test_checkpoints_of_other_data(self):
        self.program((2, 2, 1, 2))
        data, save = self.path("tokens.bin"), self.path("shuffled")
        self.train((1, 1, 1, 1), "--steps", 1, "--data", data, "--shuffle", "--seed", 3, "--save", save)
        load = ["--load", save, "--steps", 2]
        message = "shuffled with seed 3, not in the file's order; .* --override shuffle to"
        self.option_fails(message, *load, "--data", data)
        self.option_fails("seed 3, not shuffled with seed 4", *load, "--data", data, "--shuffle", "--seed", 4)
        self.option_fails("163 tokens in 163 bytes, not random tokens", *load)
        other = self.path("other.bin")
        with open(other, "wb") as file:
            file.write(bytes(self.tokens[:-2]))
        message = "tokens.bin, 163 tokens in 163 bytes, not other.bin, 161 tokens in 161 bytes; shuffled .*data,shuffle"
        self.option_fails(message, *load, "--data", other, "--override", "seq,shuffle")
        os.remove(other)

    def test_a_damaged_checkpoint(self):
        good, bad = self.path("good"), self.path("bad")
        self.train((2, 2, 1, 2), "--steps", 1, "--save", good)
        self.train((1, 1, 1, 1), "--steps", 2, "--save", self.path("later"))

        def flip(name, place):
            with open(f"{bad}/{name}", "r+b") as file:
                file.seek(place, os.SEEK_END if place < 0 else os.SEEK_SET)
                byte = file.read(1)
                file.seek(-1, os.SEEK_CUR)
                file.write(bytes([byte[0] ^ 1]))

        def take_later(name):
            shutil.copy(f"{self.path('later')}/{name}", bad)

        other = r"is damaged, or of another save than checksums.xxh128 beside it"
        for change, message in [
            # Tensors lie in the order of stages: the last is head.bias.
            (lambda: flip("model.safetensors", -1), f"model.safetensors {other}: tensor head.bias differs; copy the"),
            (lambda: flip("optimizer.safetensors", -1), f"{other}: tensor head.bias.exp_avg_sq differs; copy"),
            (lambda: flip("model.safetensors", 20), "model.safetensors"),
            (lambda: take_later("model.safetensors"), f"{other}: tensor head.bias differs, and 2 more; copy"),
            (lambda: take_later("optimizer.safetensors"), f"optimizer.safetensors {other}: tensor .* and 5 more"),
            (lambda: take_later("training.json"), f"training.json {other}; copy"),
            (lambda: take_later("tensors.json"), f"tensors.json {other}; copy"),
            (lambda: (take_later("tensors.json"), flip("model.safetensors", -1)), f"model.safetensors {other}; copy"),
            (lambda: os.truncate(f"{bad}/model.safetensors", 500), r"model.safetensors: tensor .*may be truncated"),
            (lambda: os.remove(f"{bad}/optimizer.safetensors"), "optimizer.safetensors is missing, but checksums.xxh128"),
            (lambda: os.truncate(f"{bad}/checksums.xxh128", 0), "checksums.xxh128 is damaged: it does not name model.saf"),
            (lambda: os.truncate(f"{bad}/checksums.xxh128", 60), "checksums.xxh128 is damaged: line 2 is no hash with"),
        ]:
            shutil.copytree(good, bad)
            change()
            self.program((2, 2, 1, 2))
            self.option_fails(message, "--load", bad, "--steps", 3)
            shutil.rmtree(bad)

    def test_a_checkpoint_that_cannot_be_read(self):
        save = self.path("unread")
        self.train((1, 1, 1, 1), "--steps", 1, "--save", save)
        os.remove(save + "/checksums.xxh128")
        for text, message in [
            ("{", "it is not valid JSON: "),
            ("{}", "it lacks step"),
            ('{"step": "one", "optimizer": "sgd"}', 'expects step to be a whole number from 0 to .*, but got "one"'),
            ('{"step": 9223372036854775807, "optimizer": "sgd"}', "expects step to be .*, but got 9223372036854775807"),
        ]:
            with open(save + "/training.json", "w") as file:
                file.write(text)
            self.option_fails(f"unread is not a checkpoint: .*training.json cannot be read: {message}", "--load", save)

    def broken(self, word, message, plan=(2, 2, 1, 2), is_saved=False):
        """`is_saved`: the state before the step that failed."""
        save = self.path(f"broken-{word}")
        result = self.mpirun([self.program(plan, word) + "/launch", "--steps", "3", "--save", save])
        self.assertNotEqual(result.returncode, 0)
        self.assertRegex(result.stderr, message)
        self.assertEqual(os.path.exists(save), is_saved)

    def test_programs_that_are_not_whole(self):
        self.broken("twice", "parameter table.weight is counted by two stages; compile the program again", (2, 1, 1, 2))
        self.broken("large", r"rank 0 \(stage 0\) cannot allocate its arena of 256.0 TiB", (1, 1, 1, 1))
        self.broken("lost", "the model's weights .*/toy.safetensors are missing; put them there", (1, 1, 1, 1))
        message = "parameter head.bias has no initial distribution, so weights are needed; pass them"
        self.broken("undrawn", message, (1, 1, 1, 1))

    def test_a_program_that_cannot_evaluate(self):
        message = "this program has no list of forwards to evaluate by; compile it again"
        self.fails([(1, 0)], message, ["--eval-only"], (1, 1, 1, 1))

    def test_gradients_that_cannot_be_renamed(self):
        os.makedirs(self.path("gradients/step_000001.safetensors"))
        command = [self.program((1, 1, 1, 1)) + "/launch", "--steps", "1", "--dump-gradients", self.path("gradients")]
        self.assertRegex(self.mpirun(command).stderr, "cannot rename .*/step_000001.safetensors.partial: Is a directory")

    def test_a_rank_that_dies_ends_all(self):
        self.broken("segfault", r"error: rank 3 \(stage 1\), step 2, break here: Segmentation fault")

    def test_an_error_in_what_all_ranks_do_together(self):
        message = r"error: rank 3 \(stage 1\), step 2, break here, a collective of all ranks: MPI_ERR_COUNT: invalid count"
        self.broken("mpi", message)

    def test_a_loss_that_is_not_a_number(self):
        message = r"error: step 2: the loss is nan on rank 3 \(stage 1\): all parameters and gradients are finite; try"
        self.broken("nan", message, is_saved=True)

    def test_a_gradient_that_is_not_a_number(self):
        # Of the half of the vocabulary that the last rank holds. The program does not say what its entries compute.
        message = r"error: step 2: .* nan on rank 3 \(stage 1\): the gradient of head.bias \(stage 1\) is nan at \[8\], the first .*; try"
        self.broken("gradient", message, plan=(2, 1, 2, 2), is_saved=True)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[4:], verbosity=2)
