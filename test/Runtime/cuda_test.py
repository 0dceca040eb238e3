"""The hand-written stage binary for GPUs: what it says where there is none, and what it trains where there are some.

    python cuda_test.py <cuda-stage> <launch.in>

Runs from a folder of prebuilt binaries, too: plain Python, libraries beside the binary.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import unittest

from stage_programs import ENVIRONMENT, FolderFixture, adamw, read_tensors

STAGE, LAUNCH = (os.path.abspath(path) for path in sys.argv[1:3])
BATCH, SEQ, MICRO_BATCHES, ROWS = 8, 8, 2, 64


def number_of_gpus():
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], stdout=subprocess.PIPE, text=True, timeout=60).stdout
    except OSError:
        return 0
    shown, visible = listed.count("GPU "), ENVIRONMENT.get("CUDA_VISIBLE_DEVICES")
    return shown if visible is None else min(shown, len(visible.split(",")) if visible else 0)


GPUS = number_of_gpus()


class CudaFixture(FolderFixture):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.tokens = [(i * 7 + i // 5) % 16 for i in range(SEQ * BATCH * 40)]
        with open(cls.path("tokens.bin"), "wb") as file:
            file.write(bytes(cls.tokens))

    def program(self, stages, devices, word=""):
        folder = self.path(f"{stages}-{devices}{word}")
        if not os.path.exists(folder):
            os.mkdir(folder)
            with open(os.path.join(folder, "plan.txt"), "w") as file:
                file.write(f"{stages} {devices} {word}")
            for stage in range(stages):
                shutil.copy(STAGE, os.path.join(folder, f"stage{stage}"))
            beside = os.path.dirname(STAGE)
            libraries = next(d for d in (beside, beside + "/../lib") if os.path.exists(d + "/libgalvatron_cuda.so"))
            for name in ("libgalvatron_cuda.so", "libgalvatron_rt.so"):
                os.symlink(os.path.abspath(os.path.join(libraries, name)), os.path.join(folder, name))
            with open(LAUNCH) as file:
                text = file.read().replace("@STAGES@", str(stages)).replace("@DEVICES@", str(devices))
            with open(os.path.join(folder, "launch"), "w") as file:
                file.write(text)
            os.chmod(os.path.join(folder, "launch"), 0o755)
        return folder

    def run_program(self, folder, *options, environment=None):
        return subprocess.run(
            [folder + "/launch", *map(str, options)], env=dict(ENVIRONMENT, **(environment or {})),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120,
        )  # fmt: skip


@unittest.skipIf(GPUS, "there is a GPU here")
class WithoutGpuTest(CudaFixture):
    def test_no_gpu_is_one_message_and_exit_code_1_on_every_rank(self):
        folder, codes = self.program(2, 2), self.path("codes")
        parts = []
        for stage in range(2):
            parts += [":"] * stage + ["-np", "2", "sh", "-c", f'"$@"; echo $? >> {codes}', "sh", f"{folder}/stage{stage}"]
        result = subprocess.run(["mpirun", *parts], env=ENVIRONMENT, stderr=subprocess.PIPE, text=True, timeout=120)
        self.assertRegex(
            result.stderr,
            r"error: rank 0 \(stage 0, .*\) finds no (NVIDIA driver|GPU).*this program was compiled for cuda.*--target=cpu",
        )
        self.assertEqual(result.stderr.count("error: "), 1, result.stderr)
        with open(codes) as file:
            self.assertEqual(file.read().split(), ["1"] * 4)

    def test_help_needs_no_gpu(self):
        result = self.run_program(self.program(1, 1), "--help")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("--clip-grad", result.stdout)


class DriverTest(CudaFixture):
    def test_a_driver_that_is_too_old_is_one_message_with_both_versions(self):
        # FakeDriver.cpp, a folder of its own beside the stage.
        paths = [os.path.join(os.path.dirname(STAGE), "driver"), os.environ.get("LD_LIBRARY_PATH", "")]
        self.assertTrue(os.path.exists(paths[0] + "/libcuda.so.1"))
        result = self.run_program(self.program(1, 2), environment={"LD_LIBRARY_PATH": ":".join(paths)})
        self.assertNotEqual(result.returncode, 0)
        self.assertRegex(
            result.stderr,
            r"error: rank 0 \(stage 0, .*\) has a driver for CUDA 12.8, but this program needs one for CUDA 13.\d; "
            "install NVIDIA's driver 580",
        )
        self.assertEqual(result.stderr.count("error: "), 1, result.stderr)


class Reference:
    """What CudaStage.cpp says its program computes, with torch's AdamW and clipping."""

    def __init__(self, weights, stages, devices):
        self.weights = {name: list(values) for name, values in weights.items()}
        self.stages, self.factor = stages, devices * MICRO_BATCHES
        self.first = {name: [0.0] * len(values) for name, values in self.weights.items()}
        self.second = {name: [0.0] * len(values) for name, values in self.weights.items()}

    def gradients(self):
        result = {}
        for stage in range(self.stages):
            result[f"w{stage}"] = [self.factor * v for v in self.weights[f"w{max(stage - 1, 0)}"]]
            last = stage == self.stages - 1
            result[f"b{stage}"] = [0.0 if last else self.factor * v for v in self.weights[f"b{min(stage + 1, self.stages - 1)}"]]
        return result

    def loss(self, tokens, step):
        first_rows = [((step - 1) * BATCH + m * (BATCH // MICRO_BATCHES)) * SEQ for m in range(MICRO_BATCHES)]
        return sum(self.weights[f"w{self.stages - 1}"][0] + tokens[row] for row in first_rows)

    def update(self, step, lr, decay, clip):
        return adamw(self, self.gradients(), step, lr, decay, clip, decays=lambda name: name[0] == "w")


@unittest.skipUnless(GPUS, "needs a GPU")
class WithGpuTest(CudaFixture):
    @staticmethod
    def values_of(path):
        return {name: values for name, (_, values) in read_tensors(path).items()}

    def assertNear(self, a, b, tolerance=2e-6):
        self.assertEqual(len(a), len(b))
        for x, y in zip(a, b):
            self.assertLessEqual(abs(x - y), tolerance * (1 + abs(y)))

    def train(self, plan, *options):
        log = self.path("log.csv")
        result = self.run_program(self.program(*plan), "--data", self.path("tokens.bin"), "--log", log, *options)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.output = result.stdout
        with open(log) as file:
            return [line.split(",") for line in file.read().split()[1:]]

    def plans(self):
        return [plan for plan in [(2, 1), (1, 2), (1, 1), (2, 2), (4, 1)] if plan[0] * plan[1] <= GPUS]

    def test_trains_as_written_down(self):
        for plan in self.plans():
            with self.subTest(plan=plan):
                start, save, dump = self.path("start"), self.path("save"), self.path("dump")
                # One step at learning rate 0 leaves the start values.
                self.train(plan, "--steps", 1, "--lr", 0, "--optimizer", "sgd", "--save", start)
                reference = Reference(self.values_of(start + "/model.safetensors"), *plan)
                options = ["--lr", 0.05, "--weight-decay", 0.1, "--clip-grad", 3, "--dump-gradients", dump]
                log = self.train(plan, *options, "--steps", 5, "--save", save)
                print(self.output)
                for step, row in enumerate(log, 1):
                    dumped = self.values_of(f"{dump}/step_{step:06}.safetensors")
                    for name, values in reference.gradients().items():
                        self.assertNear(dumped[name], values, 1e-5)
                    loss = reference.loss(self.tokens, step)
                    norm = reference.update(step, 0.05, 0.1, 3)
                    self.assertNear([float(row[1]), float(row[3])], [loss, norm], 1e-5)
                for name, values in self.values_of(save + "/model.safetensors").items():
                    self.assertNear(values, reference.weights[name], 1e-5)
                again = self.train(plan, *options, "--steps", 5)
                self.assertEqual([row[:4] for row in again], [row[:4] for row in log])
                rest = self.train(plan, *options[:-2], "--steps", 7, "--load", save)
                whole = self.train(plan, *options[:-2], "--steps", 7)
                # The log goes on where it was.
                self.assertEqual([row[:4] for row in rest], [row[:4] for row in whole])

    def test_memory_in_use_is_reported(self):
        self.train((1, 1), "--steps", 2)
        peak = int(re.search(r"peak bytes +\[(\d+)\]", self.output).group(1))
        used = int(re.search(r"device +\[(\d+)\] bytes in use", self.output).group(1))
        self.assertGreater(used, peak)
        self.assertLess(used, peak + (4 << 30))

    def test_traced_steps(self):
        for plan in self.plans():
            with self.subTest(plan=plan):
                file = self.path("trace.json")
                plain = self.train(plan, "--steps", 5)
                traced = self.train(plan, "--steps", 5, "--trace", file, "--trace-steps", "2:4")
                self.assertEqual([row[:4] for row in traced], [row[:4] for row in plain])
                with open(file) as text:
                    trace = json.load(text)
                error = trace["galvatron"]["clock_error_us"]
                for rank in range(plan[0] * plan[1]):
                    for step in range(2, 5):
                        own = [e for e in trace["traceEvents"] if e["ph"] == "X" and (e["pid"], e["args"]["step"]) == (rank, step)]
                        entries = [event["args"]["entry"] for event in own]
                        self.assertEqual(entries, [*range(len(own) - 2), -1, -1])
                        compute = [event for event in own[:-2] if event["tid"] == 1]
                        for before, after in zip(compute, compute[1:]):
                            self.assertLessEqual(before["ts"] + before["dur"], after["ts"] + 0.002)
                        self.assertLessEqual(compute[-1]["ts"], own[-1]["ts"] + error)
                ends = {event["id"]: event["ts"] for event in trace["traceEvents"] if event["ph"] == "f"}
                starts = {event["id"]: event["ts"] for event in trace["traceEvents"] if event["ph"] == "s"}
                self.assertEqual(starts.keys(), ends.keys())
                self.assertEqual(len(starts), 2 * MICRO_BATCHES * (plan[0] - 1) * plan[1] * 3)
                for key, start in starts.items():
                    self.assertGreaterEqual(ends[key], start - error)

    def fails(self, plan, message, *options, environment=None):
        result = self.run_program(self.program(*plan), *options, environment=environment)
        self.assertNotEqual(result.returncode, 0)
        self.assertRegex(result.stderr, message)

    def test_bad_machines(self):
        huge = r"rank 0 \(stage 0, .*\) needs 1024.0 TiB \(1125899906842624 bytes\) on GPU 0 .*but only .* are free"
        self.fails((1, 1, "huge"), huge)
        if GPUS > 1:
            message = "runs with 2 ranks on a machine with 1 GPU; each needs one"
            self.fails((1, 2), message, environment={"CUDA_VISIBLE_DEVICES": "0"})

    def test_a_kernel_that_fails_is_named(self):
        self.fails((1, 1, "fault"), r"error: rank 0 \(stage 0\), step 1, break here: CUDA: .*illegal.* \[.*:\d+\]")

    @unittest.skipIf(GPUS < 2, "needs two GPUs")
    def test_a_rank_that_is_killed_ends_the_others(self):
        for plan in [(1, 2), (2, 1)]:
            folder = self.program(*plan)
            run = subprocess.Popen(
                [folder + "/launch", "--steps", "1000000000"], env=ENVIRONMENT, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
            try:
                for line in run.stdout:
                    if line.startswith("step 1/"):
                        break
                time.sleep(1)
                last = f"{folder}/stage{plan[0] - 1}"
                own = [int(p) for p in os.listdir("/proc") if p.isdigit() and self.executable(p) == last]
                self.assertEqual(len(own), plan[1])
                begin = time.monotonic()
                os.kill(max(own), signal.SIGKILL)
                run.communicate(timeout=30)
                print(f"plan {plan}: ended {time.monotonic() - begin:.1f} s after the kill")
                self.assertNotEqual(run.returncode, 0)
                everybody = [p for p in os.listdir("/proc") if p.isdigit() and self.executable(p).startswith(folder)]
                self.assertEqual(everybody, [])
            finally:
                run.kill()

    @staticmethod
    def executable(process):
        try:
            return os.readlink(f"/proc/{process}/exe")
        except OSError:
            return ""


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:], verbosity=2)
