"""Folders with the stage binary of ToyStage.cpp, ways to run them under mpirun, and its model written out.

The tests beside this file are called with the binary, the launch script's template and the library of BadDisk.cpp;
plain Python.
"""

import array
import math
import os
import random
import shutil
import subprocess
import sys

from stage_programs import ENVIRONMENT, FolderFixture, adamw, write_tensors

TOY, LAUNCH, BAD_DISK = sys.argv[1:4]
BATCH, SEQ, VOCABULARY, HIDDEN = 8, 8, 16, 6
# stages, dp, tp, micro-batches
PLANS = [(1, 1, 1, 1), (1, 2, 1, 2), (1, 1, 2, 2), (2, 1, 1, 4), (2, 2, 1, 2), (1, 2, 2, 1), (2, 2, 2, 2)]
HEADER = "step,loss,lr,grad_norm,tokens_per_second,peak_bytes"
SHAPES = {"table.weight": [VOCABULARY, HIDDEN], "head.weight": [VOCABULARY, HIDDEN], "head.bias": [VOCABULARY]}


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
        return adamw(self, gradient, step, lr, decay, clip, decays=lambda name: len(SHAPES[name]) > 1)

    def sgd(self, gradient, lr):
        for name, values in self.weights.items():
            for i, g in enumerate(gradient[name]):
                values[i] -= lr * g


class ProgramFixture(FolderFixture):
    """Folders of stages, and ways to run them."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
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

    def mpirun(self, command, cwd=None, environment=None):
        return subprocess.run(
            list(map(str, command)),
            env=ENVIRONMENT | (environment or {}),
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
        )

    def launch(self, plan, *options, word="", code=0, environment=None):
        """Runs a plan by its launch script."""
        result = self.mpirun([self.program(plan, word) + "/launch", *options], environment=environment)
        self.output, self.errors = result.stdout, result.stderr
        self.assertEqual(result.returncode, code, result.stdout + result.stderr)

    def train(self, plan, *options, word=""):
        """Likewise; the rows of its log, as text, which begins anew."""
        log = self.path("log.csv")
        if os.path.exists(log):
            os.remove(log)
        self.launch(plan, *options, "--log", log, word=word)
        return self.log(log)

    def log(self, path):
        with open(path) as file:
            lines = file.read().splitlines() or [HEADER]
        self.assertEqual(lines[0], HEADER)
        return [line.split(",") for line in lines[1:]]

    def rows(self, step):
        """Token windows of a step without shuffling."""
        windows = [((step - 1) * BATCH + b) % 20 for b in range(BATCH)]
        return [self.tokens[w * SEQ : (w + 1) * SEQ] for w in windows]

    def assertNear(self, a, b, tolerance=2e-6):
        self.assertEqual(len(a), len(b))
        for x, y in zip(a, b):
            self.assertLessEqual(abs(x - y), tolerance * (1 + abs(y)))
