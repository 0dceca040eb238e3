"""The hand-written stage binary trains as its model does, under every plan; checkpoints, data, memory, launch.

    python training_test.py <toy-stage> <launch.in> <bad-disk>
"""

import array
import json
import math
import os
import subprocess
import re
import shutil
import sys
import unittest

from stage_programs import adamw, read_tensors, write_tensors
from toy_program import PLANS, SEQ, SHAPES, ProgramFixture, Reference


class TrainingTest(ProgramFixture):
    def test_every_plan_trains_as_one_device_does(self):
        weights, data = self.path("weights.safetensors"), self.path("tokens.bin")
        reference, expected, gradients = Reference(self.weights), [], []
        for step in range(1, 6):  # five steps take 40 windows: twice round
            loss, gradient = reference.gradients(self.rows(step))
            done = (step - 2) / 3
            lr = 0.05 * step / 2 if step <= 2 else 0.01 + 0.04 * 0.5 * (1 + math.cos(math.pi * done))
            norm = reference.adamw(gradient, step, lr, decay=0.1, clip=0.3)
            expected.append((loss, lr, norm))
            gradients.append(gradient)
        for plan in PLANS:
            with self.subTest(plan=plan):
                save, dump = self.path("save"), self.path("dump")
                log = self.train(
                    plan, "--steps", 5, "--lr", 0.05, "--min-lr", 0.01, "--warmup", 2, "--lr-schedule", "cosine",
                    "--weight-decay", 0.1, "--clip-grad", 0.3, "--weights", weights, "--data", data,
                    "--save", save, "--dump-gradients", dump,
                )  # fmt: skip
                for row, (loss, lr, norm) in zip(log, expected, strict=True):
                    self.assertNear([float(row[1]), float(row[2]), float(row[3])], [loss, lr, norm], 1e-5)
                for name, (shape, values) in read_tensors(save + "/model.safetensors").items():
                    self.assertEqual(shape, SHAPES[name])
                    self.assertNear(values, reference.weights[name], 5e-6)
                for step, gradient in enumerate(gradients, 1):
                    dumped = read_tensors(f"{dump}/step_{step:06}.safetensors")
                    for name, values in gradient.items():
                        self.assertNear(dumped[name][1], values)

    def test_learning_rates_are_megatrons(self):
        with open(os.path.join(os.path.dirname(__file__), "megatron_rates.json")) as file:
            schedules = json.load(file)
        for schedule in schedules:
            options = [word for option in schedule["options"].items() for word in option]
            for row, rate in zip(self.train(PLANS[0], *options), schedule["rates"], strict=True):
                self.assertAlmostEqual(float(row[2]), rate, delta=5e-9 * rate, msg=str(options))

    def test_no_weight_decay_by_name(self):
        start = ["--weights", self.path("weights.safetensors"), "--data", self.path("tokens.bin"), "--lr", 0.01]
        decay = [*start, "--weight-decay", 0.5, "--weight-decay-on", "all", "--steps", 3]
        for patterns, spared in (("table.*", ["table.weight"]), ("*bias,head.w?ight.tied", ["head.weight", "head.bias"])):
            reference = Reference(self.weights)
            for step in (1, 2, 3):
                _, gradients = reference.gradients(self.rows(step))
                adamw(reference, gradients, step, 0.01, 0.5, 0, decays=lambda name: name not in spared)
            self.train((2, 1, 1, 4), *decay, "--no-weight-decay", patterns, "--save", self.path("decay"))
            for name, (_, values) in read_tensors(self.path("decay/model.safetensors")).items():
                self.assertNear(values, reference.weights[name], 5e-6)
        self.launch((2, 1, 1, 4), *decay, "--no-weight-decay", "*bias,*.wieght", code=1)
        self.assertIn("--no-weight-decay *.wieght matches no parameter of the model, such as head.bias; correct", self.errors)

    def test_sgd(self):
        reference, losses = Reference(self.weights), []
        for step in (1, 2, 3):
            loss, gradient = reference.gradients(self.rows(step))
            reference.sgd(gradient, 0.5)
            losses.append(loss)
        options = ["--optimizer", "sgd", "--lr", 0.5, "--steps", 3, "--weights", self.path("weights.safetensors")]
        log = self.train((1, 2, 2, 1), *options, "--data", self.path("tokens.bin"), "--data-dtype", "u8")
        self.assertNear([float(row[1]) for row in log], losses)

    def test_initial_values_and_random_tokens_do_not_depend_on_the_plan(self):
        first = self.train((1, 1, 1, 1), "--steps", 3, "--seed", 7)
        other = self.train((1, 1, 1, 1), "--steps", 3, "--seed", 8)
        self.assertNotEqual(first[0][1], other[0][1])
        for plan in PLANS[1:]:
            log = self.train(plan, "--steps", 3, "--seed", 7)
            self.assertNear([float(row[1]) for row in log], [float(row[1]) for row in first])

    def test_shuffled_windows_are_the_same_under_every_plan(self):
        options = ["--steps", 4, "--data", self.path("tokens.bin"), "--seed", 3]
        plain = self.train((1, 1, 1, 1), *options)
        first = self.train((1, 1, 1, 1), *options, "--shuffle")
        other = self.train((2, 2, 1, 2), *options, "--shuffle")
        self.assertNear([float(row[1]) for row in first], [float(row[1]) for row in other])
        self.assertNotEqual([row[1] for row in plain], [row[1] for row in first])

    def test_a_checkpoint_goes_on_exactly_and_under_any_plan(self):
        options = ["--data", self.path("tokens.bin"), "--lr", 0.05, "--seed", 3, "--shuffle"]
        for plan in [(2, 2, 1, 2), (1, 1, 2, 2)]:
            whole = self.train(plan, *options, "--steps", 6, "--save", self.path("whole"))
            self.train(plan, *options, "--steps", 3, "--save", self.path("half"))
            rest = self.train(plan, *options, "--steps", 6, "--load", self.path("half"), "--save", self.path("rest"))
            self.assertEqual([row[:4] for row in rest], [row[:4] for row in whole[3:]])
            for name in ("model.safetensors", "optimizer.safetensors", "training.json"):
                with open(self.path("whole/" + name), "rb") as a, open(self.path("rest/" + name), "rb") as b:
                    self.assertEqual(a.read(), b.read())
            for other in PLANS:
                log = self.train(other, *options[:-3], "--shuffle", "--steps", 6, "--load", self.path("half"))
                self.assertEqual([row[0] for row in log], ["4", "5", "6"])
                self.assertNear([float(row[1]) for row in log], [float(row[1]) for row in whole[3:]])

    def test_a_checkpoint_goes_on_with_other_data_where_that_is_meant(self):
        data, save, other = self.path("tokens.bin"), self.path("other"), self.path("other.bin")
        with open(other, "wb") as file:
            file.write(bytes(self.tokens[: SEQ * 12]))
        whole = self.train((1, 1, 1, 1), "--steps", 3, "--data", data, "--seed", 3)
        self.train((1, 1, 1, 1), "--steps", 1, "--data", data, "--seed", 3, "--shuffle", "--save", save)
        go_on = ["--steps", 2, "--load", save]
        self.train((1, 2, 1, 2), *go_on, "--data", data, "--override", "shuffle")
        self.assertIn("from token 64 on", self.output)
        self.train((1, 1, 1, 1), *go_on, "--data", other, "--override", "all")
        self.assertIn("other.bin, 96 tokens of type u8, from token 64 on", self.output)
        # Other numbers of the update are an error that names them, or accepted and recorded.
        differ = ["--data", data, "--shuffle", "--clip-grad", 3, "--seed", 4]
        self.launch((1, 2, 1, 2), *go_on, *differ, code=1)
        message = "other was trained otherwise than this run would be: .*; --seed 3, not 4; --clip-grad 0, not 3; give it what"
        self.assertRegex(self.errors, message)
        self.assertIn("pass --override shuffle,seed,clip-grad to go on all the same", self.errors)
        self.train((1, 1, 1, 1), *go_on, *differ, "--override", "shuffle,seed,clip-grad", "--save", self.path("accepted"))
        self.assertIn("accepted with --override: on shuffled with seed 3, not shuffled with seed 4; --seed 3", self.output)
        with open(self.path("accepted/training.json")) as file:
            training = json.load(file)
        self.assertEqual(training["format"], 2)
        self.assertEqual([(one["step"], one["word"]) for one in training["overridden"]], [(1, "shuffle"), (1, "seed"), (1, "clip-grad")])
        self.train((1, 1, 1, 1), *go_on, "--data", data, "--shuffle")
        self.assertNotIn("accepted", self.output)
        # Data are known by what is in them.
        shutil.copy(data, self.path("moved.bin"))
        self.train((1, 1, 1, 1), *go_on, "--data", self.path("moved.bin"), "--shuffle")
        with open(self.path("moved.bin"), "r+b") as file:
            file.write(b"\7")
        self.launch((1, 1, 1, 1), *go_on, "--data", self.path("moved.bin"), "--shuffle", code=1)
        self.assertRegex(self.errors, "tokens.bin, 163 tokens in 163 bytes, not moved.bin, .* --override data to")
        # Another model, though all that it needs is there.
        with open(save + "/training.json") as file:
            training = json.load(file)
        training["model"] |= {"hash": "0" * 16, "tensors": 4}
        with open(save + "/training.json", "w") as file:
            json.dump(training, file)
        os.remove(save + "/checksums.xxh128")
        self.launch((2, 1, 1, 4), *go_on, "--data", data, "--shuffle", code=1)
        self.assertRegex(self.errors, "a model of 208 elements in 4 parameters .0000000000000000., not 208 elements in 3 ")
        self.train((1, 1, 1, 1), *go_on, "--data", data, "--shuffle", "--override", "model")
        # A checkpoint that does not say: taken, with a word.
        self.train((1, 1, 1, 1), "--steps", 2, "--data", data, "--seed", 3, "--save", save)
        with open(save + "/training.json") as file:
            text = json.load(file)
        for key in ("shuffle", "sequence", "data"):
            del text[key]
        with open(save + "/training.json", "w") as file:
            json.dump(text, file)
        os.remove(save + "/checksums.xxh128")  # as in checkpoints that never had it
        log = self.train((1, 1, 1, 1), "--steps", 3, "--load", save, "--data", data)
        self.assertEqual(log[0][:4], whole[2][:4])
        self.assertRegex(self.errors, "warning: .*other does not say .* order, .* length .* data .*; none .* was checked")
        self.assertRegex(self.errors, "warning: .*other has no checksums.xxh128, so whether its files are whole")

    def test_every_type_of_token_gives_the_same_run(self):
        expected = self.train((1, 1, 1, 1), "--steps", 1, "--data", self.path("tokens.bin"))
        for kind, code in (("u16", "H"), ("i32", "i"), ("i64", "q")):
            with open(self.path("typed.bin"), "wb") as file:
                file.write(array.array(code, self.tokens).tobytes())
            log = self.train((1, 1, 1, 1), "--steps", 1, "--data", self.path("typed.bin"), "--data-dtype", kind)
            self.assertEqual(log[0][:4], expected[0][:4])
            self.assertEqual(self.errors, "")
        log = self.train((1, 1, 1, 1), "--steps", 1, "--data", self.path("typed.bin"), "--data-dtype", "u8")
        self.assertNotEqual(log[0][1], expected[0][1])
        self.assertRegex(self.errors, "warning: .*typed.bin looks like integers of 64 bits.* but is read as u8")

    def test_weights_that_the_program_does_not_know_are_named(self):
        weights = self.path("more.safetensors")
        expected = self.train((2, 1, 1, 4), "--steps", 1, "--weights", self.path("weights.safetensors"))
        self.assertEqual(self.errors, "")
        more = {f"more.{i}": ([1], [1.0]) for i in range(7)}
        write_tensors(weights, self.weights | more | {"head.weight.tied": self.weights["head.weight"]})
        log = self.train((2, 1, 1, 4), "--steps", 1, "--weights", weights, "--quiet")
        self.assertEqual(log[0][:4], expected[0][:4])
        self.assertRegex(self.errors, "^warning: .*more.safetensors has 7 tensors .*: more.0, .*, more.4, \\.\\.\\.\n$")

    def test_saving_replaces_a_checkpoint_and_keeps_other_files(self):
        save = self.path("kept")
        self.train((1, 1, 1, 1), "--steps", 1, "--save", save)
        with open(save + "/config.json", "w") as file:
            file.write("{}")
        self.train((1, 2, 1, 2), "--steps", 2, "--save", save + "/")
        names = sorted(os.listdir(save))
        written = ["checksums.xxh128", "model.safetensors", "optimizer.safetensors", "tensors.json", "training.json"]
        self.assertEqual(names, sorted(written + ["config.json"]))
        self.assertFalse(os.path.exists(save + ".partial"))
        # A name relative to the folder one works in.
        command = [self.program((1, 1, 1, 1)) + "/launch", "--steps", "1", "--save"]
        for name in ("relative", "./relative/", "new/relative"):
            self.assertEqual(self.mpirun([*command, name], cwd=self.folder).returncode, 0, name)
        self.assertTrue(os.path.exists(self.path("new/relative/training.json")))
        # Through a link the folder behind it is replaced.
        os.symlink(save, self.path("link"))
        self.train((1, 1, 1, 1), "--steps", 2, "--save", self.path("link"))
        self.assertTrue(os.path.islink(self.path("link")))
        self.assertEqual(sorted(os.listdir(save)), names)
        with open(save + "/training.json") as file:
            self.assertEqual(json.load(file)["step"], 2)
        # Nothing of the old one stays: sgd has no moments.
        self.train((1, 1, 1, 1), "--steps", 1, "--optimizer", "sgd", "--save", save)
        self.assertNotIn("optimizer.safetensors", os.listdir(save))

    def test_checksums_are_those_of_xxh128sum(self):
        save = self.path("summed")
        for plan in ((1, 1, 1, 1), (2, 2, 1, 2)):
            self.train(plan, "--steps", 1, "--save", save)
            command = ["xxh128sum", "-c", "checksums.xxh128"]
            result = subprocess.run(command, cwd=save, stdout=subprocess.PIPE, text=True, check=True)
            self.assertEqual(result.stdout.count(": OK\n"), 4)

    def test_weights_beside_the_program_and_by_a_tied_name(self):
        folder = self.program((1, 1, 1, 1))
        expected = self.train((1, 1, 1, 1), "--steps", 1, "--weights", self.path("weights.safetensors"))
        renamed = {("head.weight.tied" if n == "head.weight" else n): t for n, t in self.weights.items()}
        write_tensors(folder + "/model.safetensors", renamed)
        try:
            self.assertEqual(self.train((1, 1, 1, 1), "--steps", 1)[0][1], expected[0][1])
        finally:
            os.remove(folder + "/model.safetensors")

    def test_memory_is_what_was_planned(self):
        log = self.train((2, 2, 1, 2), "--steps", 3)
        peaks = re.search(r"peak bytes +\[(.*)\]", self.output).group(1).split(", ")
        self.assertEqual(len(peaks), 4)
        self.assertEqual({row[5] for row in log}, {max(peaks, key=int)})
        grown = re.search(r"resident +\[(.*)\]", self.output).group(1).split(", ")
        for allocated, more in zip(peaks, grown):
            self.assertLessEqual(int(more), int(allocated) + (64 << 20))

    def test_the_folder_can_be_moved_and_called_from_anywhere(self):
        moved = self.path("moved it's here")
        shutil.copytree(self.program((2, 1, 1, 4)), moved)
        result = self.mpirun(["./launch", "--steps", "1"], cwd=moved)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("-np 1 ./stage0 --steps 1 : -np 1 ./stage1 --steps 1", result.stdout)
        result = self.mpirun(["moved it's here/launch", "--steps", "1", "--log", "a log.csv", "--quiet"], cwd=self.folder)
        self.assertEqual((result.returncode, result.stdout), (0, ""), result.stderr)
        self.assertTrue(os.path.exists(self.path("a log.csv")))

    def test_help_and_version_need_no_mpi(self):
        stage = self.program((2, 2, 1, 2)) + "/stage0"
        for flag, text in (
            ("--help", "--clip-grad X"),
            ("--version", "stage 0 of 2"),
            ("--completion=bash", "complete -F _galvatron_launch launch"),
        ):
            for command in ([stage], [self.program((2, 2, 1, 2)) + "/launch"]):
                result = self.mpirun([*command, flag])
                self.assertEqual(result.returncode, 0)
                self.assertIn(text, result.stdout)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[4:], verbosity=2)
