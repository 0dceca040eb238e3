"""What `launch` makes of launchers and hosts, as --print tells it: nothing is started.

    python launch_test.py <toy-stage> <launch.in> <bad-disk>
"""

import os
import sys
import unittest

from stage_programs import ENVIRONMENT
from toy_program import ProgramFixture

PLAN = (2, 2, 1, 2)  # two stages of two devices
SCHEDULERS = ("SLURM_JOB_ID", "SLURM_JOB_NODELIST", "SLURM_NODELIST", "PBS_JOBID", "PBS_NODEFILE")


class LaunchTest(ProgramFixture):
    def call(self, *options, environment=None, cwd=None):
        for name in SCHEDULERS:
            ENVIRONMENT.pop(name, None)
        return self.mpirun([self.program(PLAN) + "/launch", *options], cwd, environment)

    def prints(self, *options, environment=None, errors="", per_host=None):
        if per_host:
            with open(self.program(PLAN) + "/plan.json", "w") as file:
                file.write('{\n  "format": "galvatron-plan",\n  "devices_per_node": %d\n}\n' % per_host)
        result = self.call("--print", *options, environment=environment)
        if per_host:
            os.remove(self.program(PLAN) + "/plan.json")
        self.assertEqual((result.returncode, result.stderr), (0, errors))
        return result.stdout

    def refuses(self, message, *options, code=1, environment=None):
        result = self.call(*options, environment=environment)
        self.assertEqual(result.returncode, code, result.stderr)
        self.assertRegex(result.stderr, message)
        self.assertEqual(result.stderr.count("error: "), 1, result.stderr)

    def write(self, name, text, mode=0o644):
        with open(self.path(name), "w") as file:
            file.write(text)
        os.chmod(self.path(name), mode)
        return self.path(name)

    def test_hosts_are_filled_in_order(self):
        for text, per_host, expected in [
            ("a slots=2\nb slots=2\n", 2, "a slots=2\nb slots=2\n"),
            ("# ours\n\na slots=8\nb slots=8 max_slots=9\n", 2, "a slots=2\nb slots=2\n"),  # not four on the first
            ("a:2\nb:2\n", 2, "a slots=2\nb slots=2\n"),
            ("a\nb\nc\n", 2, "a slots=2\nb slots=2\n"),
            ("a\na\nb\nb\n", 2, "a slots=2\nb slots=2\n"),  # PBS
            ("a slots=4\n", 4, "a slots=4\n"),
            ("a slots=3\nb slots=1\n", None, "a slots=3\nb slots=1\n"),  # a plan that does not say
        ]:
            with self.subTest(text=text):
                out = self.prints("--hostfile", self.write("hosts", text), per_host=per_host)
                self.assertTrue(out.endswith("\nHOSTS:\n" + expected), out)
                self.assertIn(" --hostfile HOSTS ", out)

    def test_hosts_that_cannot_be_filled_so(self):
        hosts = self.write("hosts", "a slots=1\nb slots=3\n")
        warning = (
            "warning: the plan prices ranks 0 to 1 as on one host of 2 devices, but they run on a, b; give each host "
            "slots=2, or plan again with devices_per_node of these hosts\n"
        )
        self.assertIn("a slots=1\nb slots=3\n", self.prints("--hostfile", hosts, per_host=2, errors=warning))

    def test_bad_hosts(self):
        self.refuses("--hostfile: cannot open nowhere: No such file", "--hostfile", "nowhere")
        self.refuses("names no host", "--hostfile", self.write("hosts", "# none\n"))
        self.refuses("hosts:2 has 'slot=2'; expects HOST, HOST:N or", "--hostfile", self.write("hosts", "a\nb slot=2\n"))
        self.refuses(r"hosts:1 has '-x'", "--hostfile", self.write("hosts", "-x\n"))
        self.refuses("has room for 3 ranks, but this program needs 4 ", "--hostfile", self.write("hosts", "a slots=3\n"))
        os.path.exists(self.path("fifo")) or os.mkfifo(self.path("fifo"))
        self.refuses("fifo is not a file that can be read", "--hostfile", self.path("fifo"))
        self.refuses("--hostfile expects a value", "--hostfile")

    def test_schedulers(self):
        nodes = self.write("nodes", "a\na\nb\nb\n")
        out = self.prints(environment={"PBS_JOBID": "1", "PBS_NODEFILE": nodes})
        self.assertTrue(out.endswith("HOSTS:\na slots=2\nb slots=2\n"), out)
        self.refuses("PBS_JOBID is set, but PBS_NODEFILE is not", environment={"PBS_JOBID": "1"})
        self.refuses("SLURM_JOB_ID is set, but SLURM_JOB_NODELIST is not", environment={"SLURM_JOB_ID": "1"})
        out = self.prints(environment={"SLURM_JOB_ID": "1", "SLURM_JOB_NODELIST": "a,b"})
        self.assertNotIn("--bind-to", out)  # Open MPI asks Slurm
        here = " --bind-to none "
        self.assertIn(here, self.prints(environment={"MPIRUN_FLAGS": "-x ghost"}))
        self.assertNotIn(here, self.prints(environment={"MPIRUN_FLAGS": "--host a:4"}))

    def test_srun(self):
        out = self.prints("--launcher", "srun", "--steps", "3", per_host=2)
        folder = self.program(PLAN)
        self.assertEqual(
            out,
            "srun --mpi=pmix --multi-prog --ntasks=4 --distribution=block --kill-on-bad-exit=1 --nodes=2 "
            f"--ntasks-per-node=2 PROGRAMS\nPROGRAMS:\n0-1 {folder}/stage0 --steps 3\n2-3 {folder}/stage1 --steps 3\n",
        )
        self.refuses("srun's program file cannot hold", "--launcher=srun", "--print", "--log", "a b")
        self.refuses("--hostfile is for mpirun", "--launcher=srun", "--hostfile", "x")
        self.refuses("--launcher expects mpirun or srun, but got 'ssh'", "--launcher=ssh")

    def test_environment(self):
        hosts = self.write("hosts", "a slots=4\n")
        environment = {"NCCL_DEBUG": "INFO", "OMP_NUM_THREADS": "3", "CUDA_VISIBLE_DEVICES": "0", "MINE": "1", "XNCCL_": "1"}
        out = self.prints("--hostfile", hosts, "--env", "MINE,OTHER=2", environment=environment)
        for name in ("NCCL_DEBUG", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "MINE", "OTHER"):
            self.assertIn(f" -x {name} ", out)
        self.assertNotIn("XNCCL_", out)
        self.refuses("--env ABSENT: there is no such variable here", "--env", "ABSENT")
        self.refuses("--env expects NAME or NAME=VALUE, but got '=1'", "--env", "=1")
        self.refuses("--env expects NAME or NAME=VALUE, but got 'a;b'", "--env", "a;b")

    def test_foreign_launchers(self):
        hydra = self.write("hydra", "#!/bin/sh\necho 'HYDRA build details:'\n", 0o755)
        self.refuses("is not Open MPI's.*'HYDRA build details:'", environment={"MPIRUN": hydra})
        old = self.write("old", "#!/bin/sh\necho 'mpirun (Open MPI) 3.1.6'\n", 0o755)
        self.refuses(r"is too old: mpirun \(Open MPI\) 3.1.6; use Open MPI 4 or 5", environment={"MPIRUN": old})
        self.refuses("no-such is not there", environment={"MPIRUN": "no-such"}, code=127)
        self.assertIn("no-such ", self.prints(environment={"MPIRUN": "no-such"}))

    def test_nothing_of_the_callers_folder_is_run(self):
        for name in ("glob.py", "os.py", "importlib.py"):
            self.write(name, "open('ran', 'w')\n")
        os.makedirs(self.path("nvidia/x/lib"))
        library = self.program(PLAN) + "/libgalvatron_cuda.so"
        open(library, "w").close()
        try:
            environment = {"LD_LIBRARY_PATH": ":/x::/y:", "PYTHONPATH": ""}
            echo = self.write("echo", "#!/bin/sh\n[ $1 = --version ] && echo '(Open MPI) 5' || env\n", 0o755)
            result = self.call("--quiet", environment=environment | {"MPIRUN": echo}, cwd=self.folder)
        finally:
            os.remove(library)
        paths = [line for line in result.stdout.splitlines() if line.startswith("LD_LIBRARY_PATH=")]
        self.assertEqual(len(paths), 1, result.stdout + result.stderr)
        entries = paths[0].split("=", 1)[1].split(":")
        self.assertEqual(entries[:2], ["/x", "/y"])
        self.assertTrue(all(entry.startswith("/") for entry in entries), entries)
        self.assertNotIn(self.path("nvidia/x/lib"), entries)
        self.assertFalse(os.path.exists(self.path("ran")))

    def test_a_fifo_is_no_data(self):
        os.path.exists(self.path("fifo")) or os.mkfifo(self.path("fifo"))
        self.refuses("fifo is not a file of tokens", "--quiet", "--data", self.path("fifo"))
        self.refuses("fifo is not a regular file", "--quiet", "--weights", self.path("fifo"))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + [f"LaunchTest.{name}" for name in sys.argv[4:]], verbosity=2)
