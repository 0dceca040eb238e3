"""One program on three hosts: namespaces of this machine, each with a network, a name and an environment of its own.

    python hosts_test.py <toy-stage> <launch.in> <bad-disk>

The remote shell's stand-in enters them. Skipped where there is no root, or where namespaces cannot be made.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
import unittest

from stage_programs import ENVIRONMENT
from toy_program import ProgramFixture

HOSTS = ["one", "two", "three"]
SKIPPED = 77  # ctest's SKIP_RETURN_CODE


def run(*words, check=True):
    return subprocess.run(words, check=check, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def why_not():
    if os.geteuid() != 0:
        return "root is needed for network namespaces"
    for tool in ("ip", "unshare", "tc"):
        if not shutil.which(tool):
            return f"{tool} is not there (Debian: iproute2, util-linux)"
    name = f"gvt{os.getpid()}"
    made = run("ip", "netns", "add", name, check=False)
    if made.returncode:
        return "network namespaces cannot be made here: " + made.stdout.strip()
    entered = run("ip", "netns", "exec", name, "unshare", "-u", "-m", "hostname", "one", check=False)
    run("ip", "netns", "del", name, check=False)
    return "namespaces cannot be entered here: " + entered.stdout.strip() if entered.returncode else ""


class HostsTest(ProgramFixture):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.prefix = f"gv{os.getpid()}"
        cls.names = {host: f"{cls.prefix}{host}" for host in HOSTS}
        cls.addClassCleanup(cls.remove_hosts)
        # A switch in a namespace of its own, so that nothing of it is in the machine's network.
        cls.switch = f"{cls.prefix}switch"
        run("ip", "netns", "add", cls.switch)
        run("ip", "-n", cls.switch, "link", "add", "bridge", "type", "bridge")
        run("ip", "-n", cls.switch, "link", "set", "bridge", "up")
        for i, host in enumerate(HOSTS):
            space = cls.names[host]
            run("ip", "netns", "add", space)
            run("ip", "-n", space, "link", "set", "lo", "up")
            run("ip", "-n", space, "link", "add", "eth0", "type", "veth", "peer", "name", host, "netns", cls.switch)
            run("ip", "-n", cls.switch, "link", "set", host, "master", "bridge", "up")
            run("ip", "-n", space, "addr", "add", f"10.99.17.{i + 1}/24", "dev", "eth0")
            run("ip", "-n", space, "link", "set", "eth0", "up")
        with open(cls.path("etc-hosts"), "w") as file:
            file.write("127.0.0.1 localhost\n" + "".join(f"10.99.17.{i + 1} {h}\n" for i, h in enumerate(HOSTS)))
        cls.own = cls.path("own")  # another folder on each host, of one name
        os.mkdir(cls.own)
        for host in HOSTS:
            os.mkdir(cls.path(f"disk-{host}"))
        cls.agent = cls.path("agent")
        with open(cls.agent, "w") as file:
            file.write(f"""#!/bin/sh
host=$1
shift
[ ! -e {cls.folder}/down-$host ] || {{ echo "ssh: connect to host $host port 22: No route to host" >&2; exit 255; }}
exec ip netns exec {cls.prefix}$host env -i PATH="$PATH" unshare -u -m sh -c '
hostname "$0" && mount --bind {cls.path("etc-hosts")} /etc/hosts && mount --bind {cls.folder}/disk-$0 {cls.own} || exit 1
eval "exec $1"' "$host" "$*"
""")
        os.chmod(cls.agent, 0o755)
        cls.hostfile = cls.path("hosts")

    @classmethod
    def remove_hosts(cls):
        for space in [*cls.names.values(), cls.switch]:
            for pid in run("ip", "netns", "pids", space, check=False).stdout.split():
                if pid.isdigit():
                    try:
                        os.kill(int(pid), signal.SIGKILL)
                    except ProcessLookupError:
                        pass
            run("ip", "netns", "del", space, check=False)

    def hosts(self, *lines):
        with open(self.hostfile, "w") as file:
            file.write("\n".join(lines) + "\n")

    def start(self, plan, *options, environment=None):
        """On the first host."""
        environment = {name: value for name, value in ENVIRONMENT.items()} | (environment or {})
        environment["OMPI_MCA_plm_rsh_agent"] = self.agent
        setup = (
            f'hostname one && mount --bind {self.path("etc-hosts")} /etc/hosts && '
            f'mount --bind {self.folder}/disk-one {self.own} && exec "$@"'
        )
        command = ["ip", "netns", "exec", self.names["one"], "unshare", "-u", "-m", "sh", "-c", setup, "sh"]
        command += [self.program(plan) + "/launch", "--hostfile", self.hostfile, *map(str, options)]
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        self.addCleanup(lambda: process.poll() is None and process.kill())
        return process

    def ends(self, process, code, seconds=60):
        self.output, self.errors = process.communicate(timeout=seconds)
        self.assertEqual(process.returncode, code, self.output + self.errors)

    def options(self, log, *more):
        if os.path.exists(log):
            os.remove(log)
        return ["--data", self.path("tokens.bin"), "--lr", 0.01, "--log", log, "--timeout", 10, *more]

    def wait_for_steps(self, process, log, steps=3):
        while not os.path.exists(log) or len(self.log(log)) < steps:
            self.assertIsNone(process.poll(), "it ended")
            time.sleep(0.05)

    def kill(self, host):
        """As if the host had lost its power."""
        for pid in run("ip", "netns", "pids", self.names[host]).stdout.split():
            os.kill(int(pid), signal.SIGKILL)

    def test_numbers_of_one_host(self):
        for plan, lines in [
            ((1, 2, 1, 2), ["one slots=1", "two slots=1"]),  # dp
            ((1, 1, 2, 2), ["one slots=1", "three slots=1"]),  # tp
            ((2, 1, 1, 4), ["one slots=1", "two slots=1"]),  # pp
            ((2, 2, 1, 2), ["one", "two", "two", "three"]),  # as PBS writes it, and stages across hosts
        ]:
            with self.subTest(plan=plan):
                here, there = self.path("here.csv"), self.path("there.csv")
                self.launch(plan, *map(str, self.options(here, "--steps", 3)))
                self.hosts(*lines)
                self.ends(self.start(plan, *self.options(there, "--steps", 3)), 0)
                self.assertEqual([r[:4] for r in self.log(there)], [r[:4] for r in self.log(here)])

    def test_a_lost_host(self):
        log, save = self.path("lost.csv"), self.path("lost")
        self.hosts("one slots=1", "two slots=1")
        plan = (1, 2, 1, 2)
        options = self.options(log, "--steps", 10**9, "--save", save, "--save-every", 50)
        process = self.start(plan, *options)
        self.wait_for_steps(process, log)
        self.kill("two")
        began = time.time()
        self.ends(process, 70, 30)
        self.assertRegex(self.errors, r"error: .*\btwo\b")
        self.assertEqual(run("ip", "netns", "pids", self.names["one"]).stdout, "", f"after {time.time() - began} s")

    def test_a_lost_host_comes_back(self):
        log, save = self.path("back.csv"), self.path("back")
        self.hosts("one slots=1", "two slots=1")
        plan = (1, 2, 1, 2)
        process = self.start(plan, *self.options(log, "--steps", 3000, "--save", save, "--save-every", 20, "--restarts", 3))
        self.wait_for_steps(process, log, 60)
        self.kill("two")
        self.ends(process, 0, 100)
        self.assertRegex(self.errors, r"restart 1 .* from step \d+")
        whole = self.path("whole.csv")
        self.launch(plan, *map(str, self.options(whole, "--steps", 3000)))
        self.assertEqual([r[:4] for r in self.log(log)], [r[:4] for r in self.log(whole)])

    def test_a_link_that_goes_away(self):
        log = self.path("link.csv")
        self.hosts("one slots=1", "two slots=1")
        process = self.start((1, 2, 1, 2), *self.options(log, "--steps", 10**9))
        self.wait_for_steps(process, log)
        run("ip", "-n", self.switch, "link", "set", "two", "down")
        try:
            self.output, self.errors = process.communicate(timeout=60)
            self.assertIn(process.returncode, (70, 71), self.errors)
            self.assertIn("error: ", self.errors)
            deadline = time.time() + 30
            while run("ip", "netns", "pids", self.names["two"]).stdout and time.time() < deadline:
                time.sleep(0.2)
            self.assertEqual(run("ip", "netns", "pids", self.names["two"]).stdout, "")
        finally:
            run("ip", "-n", self.switch, "link", "set", "two", "up")

    def test_slow_links(self):
        log = self.path("slow.csv")
        self.hosts("one slots=1", "two slots=1")
        run("tc", "-n", self.names["two"], "qdisc", "add", "dev", "eth0", "root", "netem", "delay", "150ms", check=False)
        try:
            self.ends(self.start((1, 2, 1, 2), *self.options(log, "--steps", 5, "--timeout", 3)), 0)
        finally:
            run("tc", "-n", self.names["two"], "qdisc", "del", "dev", "eth0", "root", check=False)

    def test_files_that_differ(self):
        self.hosts("one slots=1", "two slots=1")
        plan, data = (1, 2, 1, 2), self.own + "/tokens.bin"
        log = self.path("never.csv")
        options = ["--log", log, "--steps", 2, "--timeout", 10]
        shutil.copy(self.path("tokens.bin"), self.path("disk-one"))
        self.ends(self.start(plan, *options, "--data", data), 1)
        self.assertIn(f"error: host two has no {data}, which host one has; copy it there", self.errors)
        with open(self.path("disk-two") + "/tokens.bin", "wb") as file:
            file.write(bytes(163))
        self.ends(self.start(plan, *options, "--data", data), 1)
        self.assertIn(f"error: host two (rank 1) has another {data} than host one; copy it there", self.errors)
        self.ends(self.start(plan, *options, "--save", self.own + "/run"), 1)
        self.assertIn("error: --save: host two (rank 1) does not see what host one writes into", self.errors)
        self.assertFalse(os.path.exists(log))
        self.assertEqual(os.listdir(self.path("disk-two")), ["tokens.bin"])
        self.assertEqual(os.listdir(self.path("disk-one")), ["tokens.bin"])

    def test_a_program_that_is_missing_on_a_host(self):
        self.hosts("one slots=1", "two slots=1")
        shutil.copytree(self.program((1, 2, 1, 2)), self.path("disk-one") + "/p")
        process = self.start((1, 2, 1, 2), "--steps", 2)
        self.ends(process, 0)
        old = self.program
        self.program = lambda plan, word="": self.own + "/p"
        try:
            self.ends(self.start((1, 2, 1, 2), "--steps", 2), 127)
        finally:
            self.program = old
            shutil.rmtree(self.path("disk-one") + "/p")
        self.assertRegex(self.errors, "error: host two has no .*/p/stage0; ")

    def test_a_host_that_cannot_be_reached(self):
        self.hosts("one slots=1", "two slots=1")
        open(self.path("down-two"), "w").close()
        try:
            self.ends(self.start((1, 2, 1, 2), "--steps", 2), 70, 30)
        finally:
            os.remove(self.path("down-two"))
        self.assertIn("connect to host two", self.errors)
        self.assertIn("error: a host cannot be reached, or Open MPI's daemon does not start there (one two)", self.errors)

    def test_environment_is_forwarded(self):
        self.hosts("one slots=1", "two slots=1")
        environment = {"NCCL_DEBUG": "WARN", "MINE": "x"}
        process = self.start((1, 2, 1, 2), "--steps", 1, "--env", "MINE,OTHER=y", environment=environment)
        self.ends(process, 0)
        for name in ("NCCL_DEBUG", "MINE", "OTHER", "GALVATRON_LAUNCH"):
            self.assertIn(f" -x {name} ", self.output)


if __name__ == "__main__":
    if reason := why_not():
        print(f"skipped: {reason}")
        sys.exit(SKIPPED)
    names = sys.argv[4:]
    unittest.main(argv=sys.argv[:1] + [f"HostsTest.{name}" for name in names], verbosity=2)
