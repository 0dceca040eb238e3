"""Runs the stage binary of ToyStage.cpp under mpirun: equal to the model written out below under every plan, checkpoints,
data, and every kind of bad input.

    python program_test.py <toy-stage> <launch.in>        plain Python, no packages
"""

import array
import json
import math
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

TOY, LAUNCH = sys.argv[1:3]
BATCH, SEQ, VOCABULARY, HIDDEN = 8, 8, 16, 6
# stages, dp, tp, micro-batches
PLANS = [(1, 1, 1, 1), (1, 2, 1, 2), (1, 1, 2, 2), (2, 1, 1, 4), (2, 2, 1, 2), (1, 2, 2, 1), (2, 2, 2, 2)]
SHAPES = {"table.weight": [VOCABULARY, HIDDEN], "head.weight": [VOCABULARY, HIDDEN], "head.bias": [VOCABULARY]}
ENVIRONMENT = dict(
    os.environ,
    OMPI_ALLOW_RUN_AS_ROOT="1",
    OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
    OMPI_MCA_rmaps_base_oversubscribe="1",
    OMPI_MCA_mpi_yield_when_idle="1",
    OMPI_MCA_hwloc_base_binding_policy="none",
)


def write_tensors(path, tensors):
    header, data = {}, b""
    for name, (shape, values) in tensors.items():
        raw = array.array("f", values).tobytes()
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


def read_tensors(path):
    with open(path, "rb") as file:
        raw = file.read()
    (size,) = struct.unpack("<Q", raw[:8])
    tensors = {}
    for name, entry in json.loads(raw[8 : 8 + size]).items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            tensors[name] = (entry["shape"], list(array.array("f", raw[8 + size + begin : 8 + size + end])))
    return tensors


class Reference:
    """The toy model on one device in double precision, with torch's AdamW and clipping."""

    def __init__(self, weights):
        self.weights = {name: list(values) for name, (_, values) in weights.items()}
        self.first = {name: [0.0] * len(values) for name, values in self.weights.items()}
        self.second = {name: [0.0] * len(values) for name, values in self.weights.items()}

    def gradients(self, rows):
        table, w, bias = (self.weights[name] for name in SHAPES)
        gradient = {name: [0.0] * len(values) for name, values in self.weights.items()}
        loss, labels = 0.0, len(rows) * (SEQ - 1)
        for row in rows:
            for token, label in zip(row, row[1:]):
                x = table[token * HIDDEN : token * HIDDEN + HIDDEN]
                logits = [bias[v] + sum(w[v * HIDDEN + h] * x[h] for h in range(HIDDEN)) for v in range(VOCABULARY)]
                total = sum(math.exp(value) for value in logits)
                loss += (math.log(total) - logits[label]) / labels
                for v in range(VOCABULARY):
                    d = (math.exp(logits[v]) / total - (v == label)) / labels
                    gradient["head.bias"][v] += d
                    for h in range(HIDDEN):
                        gradient["head.weight"][v * HIDDEN + h] += d * x[h]
                        gradient["table.weight"][token * HIDDEN + h] += d * w[v * HIDDEN + h]
        return loss, gradient

    def adamw(self, gradient, step, lr, decay, clip):
        norm = math.sqrt(sum(g * g for values in gradient.values() for g in values))
        scale = min(1.0, clip / (norm + 1e-6)) if clip else 1.0
        for name, values in self.weights.items():
            shrink = 1 - lr * (decay if len(SHAPES[name]) > 1 else 0)
            for i, g in enumerate(gradient[name]):
                g *= scale
                m = self.first[name][i] = 0.9 * self.first[name][i] + 0.1 * g
                v = self.second[name][i] = 0.999 * self.second[name][i] + 0.001 * g * g
                update = (m / (1 - 0.9**step)) / (math.sqrt(v / (1 - 0.999**step)) + 1e-8)
                values[i] = values[i] * shrink - lr * update
        return norm

    def sgd(self, gradient, lr):
        for name, values in self.weights.items():
            for i, g in enumerate(gradient[name]):
                values[i] -= lr * g


class ProgramFixture(unittest.TestCase):
    """Folders of stages, and ways to run them."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp()
        generator = random.Random(1)
        cls.weights = {
            name: (shape, [generator.gauss(0, 0.5) for _ in range(math.prod(shape))]) for name, shape in SHAPES.items()
        }
        # f32 values, as a file holds them.
        cls.weights = {n: (s, list(array.array("f", v))) for n, (s, v) in cls.weights.items()}
        write_tensors(cls.path("weights.safetensors"), cls.weights)
        cls.tokens = [generator.randrange(VOCABULARY) for _ in range(SEQ * 20 + 3)]  # 20 windows, 3 tokens left over
        with open(cls.path("tokens.bin"), "wb") as file:
            file.write(bytes(cls.tokens))

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    @classmethod
    def path(cls, name):
        return os.path.join(cls.folder, name)

    def program(self, plan, word=""):
        """A folder with the stages of a plan, as the compiler writes it."""
        stages, dp, tp, _ = plan
        folder = self.path("-".join(map(str, plan)) + word)
        if not os.path.exists(folder):
            os.mkdir(folder)
            with open(os.path.join(folder, "plan.txt"), "w") as file:
                file.write(" ".join(map(str, plan)) + " " + word)
            for stage in range(stages):
                shutil.copy(TOY, os.path.join(folder, f"stage{stage}"))
            with open(LAUNCH) as file:
                text = file.read().replace("@STAGES@", str(stages)).replace("@DEVICES@", str(dp * tp))
            with open(os.path.join(folder, "launch"), "w") as file:
                file.write(text)
            os.chmod(os.path.join(folder, "launch"), 0o755)
        return folder

    def mpirun(self, command, cwd=None):
        return subprocess.run(
            command, env=ENVIRONMENT, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120
        )

    def train(self, plan, *options, word=""):
        """Runs a plan by its launch script; the rows of its log, as text."""
        log = self.path("log.csv")
        result = self.mpirun([self.program(plan, word) + "/launch", *map(str, options), "--log", log])
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.output = result.stdout
        with open(log) as file:
            lines = file.read().split()
        self.assertEqual(lines[0], "step,loss,lr,grad_norm,tokens_per_second,peak_bytes")
        return [line.split(",") for line in lines[1:]]

    def rows(self, step):
        """Token windows of a step without shuffling."""
        windows = [((step - 1) * BATCH + b) % 20 for b in range(BATCH)]
        return [self.tokens[w * SEQ : (w + 1) * SEQ] for w in windows]

    def assertNear(self, a, b, tolerance=2e-6):
        self.assertEqual(len(a), len(b))
        for x, y in zip(a, b):
            self.assertLessEqual(abs(x - y), tolerance * (1 + abs(y)))


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
        # The checkpoint is at step 3 already: three further steps.
        log = self.train((1, 1, 1, 1), *options, "--steps", 3, "--load", self.path("half"))
        self.assertEqual([row[0] for row in log], ["4", "5", "6"])

    def test_saving_replaces_a_checkpoint_and_keeps_other_files(self):
        save = self.path("kept")
        self.train((1, 1, 1, 1), "--steps", 1, "--save", save)
        with open(save + "/config.json", "w") as file:
            file.write("{}")
        self.train((1, 2, 1, 2), "--steps", 2, "--save", save + "/")
        names = sorted(os.listdir(save))
        self.assertEqual(names, ["config.json", "model.safetensors", "optimizer.safetensors", "training.json"])
        self.assertFalse(os.path.exists(save + ".partial"))
        with open(save + "/training.json") as file:
            self.assertEqual(json.load(file)["step"], 2)

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
        for flag, text in (("--help", "--clip-grad X"), ("--version", "stage 0 of 2")):
            for command in ([stage], [self.program((2, 2, 1, 2)) + "/launch"]):
                result = self.mpirun([*command, flag])
                self.assertEqual(result.returncode, 0)
                self.assertIn(text, result.stdout)


class BadInputTest(ProgramFixture):
    """One message, exit code 1 on every rank, nothing left behind."""

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

    def option_fails(self, message, *options):
        self.fails([(2, 0), (2, 1)], message, options)

    def test_options(self):
        self.program((2, 2, 1, 2))
        for options, message in [
            (["--stepz", "3"], "there is no option '--stepz'; --help lists them"),
            (["--steps", "0"], "--steps expects a whole number from 1 on, but got '0'"),
            (["--steps", "3.5"], "--steps expects a whole number"),
            (["--steps"], "--steps expects a value behind it"),
            (["--lr", "fast"], "--lr expects a number from 0 on, but got 'fast'"),
            (["--betas", "0.9,1"], "--betas expects a number from 0 to below 1, but got '1'"),
            (["--optimizer", "adam"], "--optimizer expects adamw or sgd, but got 'adam'"),
            (["--lr-schedule=step"], "--lr-schedule expects constant, linear or cosine, but got 'step'"),
            (["--seed", "-1"], "--seed expects a whole number from 0 on"),
        ]:
            with self.subTest(options=options):
                self.option_fails(message, *options)

    def test_data(self):
        self.program((2, 2, 1, 2))
        self.option_fails("cannot open nowhere.bin: No such file", "--data", "nowhere.bin")
        bad = self.path("bad.bin")
        with open(bad, "wb") as file:
            file.write(bytes(SEQ * BATCH - 1))
        self.option_fails("has 63 tokens, but one batch needs 8 windows of 8, 64 tokens", "--data", bad)
        with open(bad, "wb") as file:
            file.write(bytes(100) + bytes([VOCABULARY]) + bytes(200))
        message = r"bad.bin: token 100 is 16, outside the vocabulary of 16"
        self.option_fails(message, "--data", bad, "--save", self.path("never"), "--log", self.path("never.csv"))
        self.option_fails("which is no whole number of u16 tokens", "--data", bad, "--data-dtype", "u16")
        self.option_fails("is not a file of tokens", "--data", self.folder)
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
        self.option_fails(r"tensor head.bias of shape \[16\], but got \[16, 1\]", "--weights", bad)
        shutil.copy(self.path("weights.safetensors"), bad)
        os.truncate(bad, 500)
        self.option_fails("bad.safetensors.*truncated", "--weights", bad)
        self.option_fails("cannot open nowhere", "--weights", "nowhere")
        os.remove(bad)

    def test_places_that_cannot_be_written(self):
        self.program((2, 2, 1, 2))
        file = self.path("tokens.bin")
        self.option_fails("tokens.bin", "--save", file)
        self.option_fails("cannot create .*tokens.bin/deeper.partial", "--save", file + "/deeper")
        self.option_fails("cannot open the log .*tokens.bin/log", "--log", file + "/log")
        self.option_fails("cannot write to the folder .*tokens.bin", "--dump-gradients", file)

    def test_checkpoints(self):
        self.program((2, 2, 1, 2))
        self.option_fails("is not a checkpoint: .*training.json is missing", "--load", self.folder)
        self.option_fails("so --weights cannot be given too", "--load", "x", "--weights", "y")
        self.train((1, 1, 1, 1), "--steps", 1, "--optimizer", "sgd", "--save", self.path("sgd"))
        self.option_fails("has no moments for adamw; pass the same optimizer", "--load", self.path("sgd"))

    def broken(self, word, message):
        save = self.path("broken")
        result = self.mpirun([self.program((2, 2, 1, 2), word) + "/launch", "--steps", "3", "--save", save])
        self.assertNotEqual(result.returncode, 0)
        self.assertRegex(result.stderr, message)
        self.assertFalse(os.path.exists(save))

    def test_a_rank_that_dies_ends_all(self):
        self.broken("segfault", r"error: rank 3 \(stage 1\), step 2, break here: Segmentation fault")

    def test_a_loss_that_is_not_a_number(self):
        self.broken("nan", r"error: step 2: the loss is nan on rank 3 \(stage 1\)")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:], verbosity=2)
