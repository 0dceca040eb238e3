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
import time
import unittest
from concurrent.futures import ThreadPoolExecutor

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


class RunFixture(ProgramFixture):
    """Runs of FOUR ranks that would last for very long, and what becomes of them. Each test has a folder of its own."""

    FOUR = (2, 2, 1, 2)

    def setUp(self):
        self.own = self.path(self.id().rsplit(".", 1)[1])
        os.mkdir(self.own)
        self.dir, self.csv, self.data = self.own + "/run", self.own + "/run.csv", self.path("tokens.bin")

    def options(self, *more):
        options = ["--data", self.data, "--shuffle", "--lr", 0.01, "--log", self.csv]
        return [str(option) for option in (*options, *more)]

    def start(self, *more, wait=True, steps=10**9, environment=()):
        """A run in a process group of its own, once it is in its steps."""
        if os.path.exists(self.csv):
            os.remove(self.csv)
        run = subprocess.Popen(
            [self.program(self.FOUR) + "/launch", *self.options("--steps", steps, *more)],
            env=ENVIRONMENT | dict(environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.addCleanup(lambda: run.poll() is None and run.kill())
        while wait and (not os.path.exists(self.csv) or len(self.log(self.csv)) < 3):
            self.assertIsNone(run.poll())
            time.sleep(0.05)
        return run

    def processes(self, run, name):
        """Those below a run whose command begins with this name, in the order of ranks."""
        found, above = [], [run.pid]
        while above:
            pid = above.pop()
            try:
                with open(f"/proc/{pid}/cmdline") as file:
                    if os.path.basename(file.read().split("\0")[0]).startswith(name):
                        found.append(pid)
                with open(f"/proc/{pid}/task/{pid}/children") as file:
                    above += [int(word) for word in file.read().split()]
            except (FileNotFoundError, ProcessLookupError):
                pass  # it ended meanwhile
        return sorted(found)

    def ends(self, run, code):
        self.output, self.errors = run.communicate(timeout=200)
        self.assertEqual(run.returncode, code, self.output + self.errors)

    def assertGone(self, pids):
        for pid in pids:
            while self.state(pid) not in ("", "Z"):
                time.sleep(0.05)

    def state(self, pid):
        """R, S, T, Z … of Linux; empty where there is no such process."""
        try:
            with open(f"/proc/{pid}/stat") as file:
                return file.read().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return ""


def run_at_once(case, jobs):
    """As unittest.main, with several tests of one class at a time in the order of the file: most of them wait."""

    def run(name):
        result = unittest.TestResult()
        case(name).run(result)
        return name, [text for _, text in result.failures + result.errors]

    names = sys.argv[4:] or [name for name in vars(case) if name.startswith("test")]
    failed = 0
    case.setUpClass()
    case.program(case, case.FOUR)
    with ThreadPoolExecutor(jobs) as pool:
        for name, troubles in pool.map(run, names):
            print(f"{name} ... {'FAILED' if troubles else 'ok'}", *troubles, sep="\n", flush=True)
            failed += bool(troubles)
    case.tearDownClass()
    sys.exit(f"{failed} of {len(names)} failed" if failed else 0)
