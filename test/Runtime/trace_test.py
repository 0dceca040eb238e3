"""libgalvatron_trace.so in a process whose CUPTI is FakeCupti.cpp: what it writes at the end, and when it writes nothing.

trace_test.py <libgalvatron_trace.so> <the fake libcupti>
"""

import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench/gpu"))

import breakdown  # noqa: E402

LIBRARY, CUPTI = (Path(argument).resolve() for argument in sys.argv[1:3])
# What the driver does when a program first calls CUDA.
PROGRAM = "import ctypes, sys; code = ctypes.CDLL(sys.argv[1]).InitializeInjection(); sys.exit(code != 1)"


def inject(folder: Path, cupti: Path, program: str = PROGRAM) -> subprocess.CompletedProcess:
    env = os.environ | {"GALVATRON_CUPTI": str(cupti), "RANK": "3", "GALVATRON_TRACE_FILE": str(folder / "trace.%r")}
    for name in ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID", "LD_LIBRARY_PATH"):
        env.pop(name, None)
    return subprocess.run([sys.executable, "-c", program, LIBRARY], env=env, capture_output=True, text=True)


class TraceTest(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)

    def test_every_run_is_written_with_its_readable_name(self):
        result = inject(self.folder, CUPTI)
        self.assertEqual(result.returncode, 0, result.stderr)
        runs = breakdown.read(self.folder / "trace.3")
        self.assertEqual(len(runs), 12)
        first = [(run.name, run.stream, run.start, run.end, run.bytes) for run in runs[:6]]
        self.assertEqual(
            first,
            [
                ("memcpy from the host", 7, 1000000, 1005000, 64),
                ("memset", 7, 1005000, 1010000, 4096),
                ("nvjet_sm90_tst_128x256_64x4", 7, 1010000, 1110000, 0),
                ("ncclDevKernel_AllReduce_Sum_f32_RING_LL", 9, 1060000, 1130000, 0),
                ("kernel_3 (rows)", 7, 1130000, 1140000, 0),
                ("void galvatron::cuda::updateAll<galvatron::cuda::Adamw>()", 7, 1150000, 1190000, 0),
            ],
        )

    def test_what_was_dropped_is_told(self):
        inject(self.folder, CUPTI)
        self.assertIn("dropped\t3\n", (self.folder / "trace.3").read_text())

    def test_the_breakdown_of_the_recorded_step_adds_up(self):
        inject(self.folder, CUPTI)
        found = breakdown.analyse(breakdown.read(self.folder / "trace.3"))
        times = {label: entry["ms"] for label, entry in found["classes"].items() if entry["ms"]}
        # From the end of the first update: 10 idle, 10 copies, 100 product, 20 of 70 exposed, 10 norm, 10 idle, 40 update.
        expected = {"idle": 0.02, "copies": 0.01, "GEMM": 0.1, "communication": 0.02, "norm": 0.01, "AdamW": 0.04}
        self.assertEqual(times, expected)
        self.assertAlmostEqual(sum(times.values()), found["step_ms"])

    def test_without_cupti_a_program_runs_untraced(self):
        result = inject(self.folder, self.folder / "nothing.so")
        self.assertEqual(result.returncode, 0)
        # Where a CUPTI is installed it is found by its usual place, and has nothing to record.
        self.assertFalse((self.folder / "trace.3").exists())

    def test_a_library_that_is_no_cupti_is_told(self):
        result = inject(self.folder, LIBRARY)
        self.assertEqual(result.returncode, 0)
        self.assertIn("libcupti.so.13 was not found", result.stderr)

    def test_a_forked_child_writes_nothing(self):
        child = "; import os; pid = os.fork(); sys.exit(0) if pid == 0 else os.waitpid(pid, 0)"
        first, _, last = PROGRAM.rpartition("; ")
        inject(self.folder, CUPTI, first + child + "; os._exit(0)")
        self.assertEqual(list(self.folder.iterdir()), [])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
