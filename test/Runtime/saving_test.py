"""Checkpoints on the way: which stay, which are taken, who may write them, and what a disk may do meanwhile.

    python saving_test.py <toy-stage> <launch.in> <bad-disk>
"""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import unittest

from toy_program import BAD_DISK, ProgramFixture

ONE, FOUR = (1, 1, 1, 1), (2, 2, 1, 2)


class SavingTest(ProgramFixture):
    def setUp(self):
        self.dir = self.path("run")
        shutil.rmtree(self.dir, ignore_errors=True)

    def options(self, *more):
        return ["--data", self.path("tokens.bin"), "--lr", 0.05, "--seed", 3, "--shuffle", *more]

    def save(self, steps, *more, plan=FOUR, every=2, **how):
        self.launch(plan, *self.options("--steps", steps, "--save", self.dir, "--save-every", every, *more), **how)

    def steps(self):
        return sorted(name for name in os.listdir(self.dir))

    def damage(self, step, name="model.safetensors"):
        os.truncate(f"{self.dir}/step_{step:06}/{name}", 300)

    def assertSame(self, step, folder):
        for name in ("model.safetensors", "optimizer.safetensors", "training.json"):
            with open(f"{self.dir}/step_{step:06}/{name}", "rb") as a, open(f"{folder}/{name}", "rb") as b:
                self.assertEqual(a.read(), b.read())

    def test_every_few_steps_and_at_the_end(self):
        whole, log = self.path("whole"), self.path("run.csv")
        expected = self.train(FOUR, *self.options("--steps", 7, "--save", whole))
        self.save(5, "--log", log)
        self.assertEqual(self.steps(), ["latest", "step_000002", "step_000004", "step_000005"])
        self.assertEqual(os.readlink(self.dir + "/latest"), "step_000005")
        for step in (2, 4, 5):
            command = ["xxh128sum", "-c", "checksums.xxh128"]
            subprocess.run(command, cwd=f"{self.dir}/step_{step:06}", stdout=subprocess.DEVNULL, check=True)
        # The newest of them, and the log goes on; so it does from an earlier one.
        self.save(7, "--load", self.dir, "--log", log, "--keep", 2)
        self.assertIn("/step_000005, step 5\n", self.output)
        self.assertEqual(self.steps(), ["latest", "step_000006", "step_000007"])
        self.assertSame(7, whole)
        self.assertEqual([row[:4] for row in self.log(log)], [row[:4] for row in expected])
        with open(log, "a") as file:
            file.write("8,1.25,0")  # a row that a full disk cut off
        self.launch(FOUR, *self.options("--steps", 7, "--load", self.dir + "/step_000006", "--log", log))
        self.assertEqual([row[:4] for row in self.log(log)], [row[:4] for row in expected])
        # Another plan takes the link.
        self.launch(ONE, *self.options("--steps", 8, "--load", self.dir + "/latest", "--log", log))
        self.assertEqual([row[0] for row in self.log(log)], list("12345678"))

    def test_the_newest_that_is_whole_is_taken(self):
        whole = self.path("whole of six")
        self.launch(ONE, *self.options("--steps", 6, "--save", whole))
        self.save(6)
        self.damage(6)
        os.remove(self.dir + "/step_000004/checksums.xxh128")
        os.mkdir(self.dir + "/step_000008")  # empty: nobody's
        self.launch(FOUR, *self.options("--steps", 3, "--load", self.dir))
        self.assertRegex(self.errors, "warning: passed over a checkpoint: .*step_000006/model.safetensors")
        self.assertRegex(self.errors, "warning: passed over a checkpoint: .*step_000004 has no checksums.xxh128, which is written last")
        self.assertIn("step_000002, step 2\n", self.output)
        # What was passed over is replaced when its turn comes.
        self.save(6, "--load", self.dir)
        self.assertEqual(self.steps(), ["latest", "step_000002", "step_000004", "step_000006", "step_000008"])
        self.launch(ONE, *self.options("--steps", 7, "--load", self.dir))
        self.assertEqual(self.errors, "")
        for step in (2, 4, 6):
            self.damage(step)
        self.launch(FOUR, *self.options("--steps", 7, "--load", self.dir), code=1)
        self.assertRegex(self.errors, "error: --load: none of the checkpoints in .*run is whole; give another folder")

    def test_a_requeued_job_keeps_its_command(self):
        self.save(2, "--load", self.dir)
        self.assertRegex(self.output, "random values, seed 3; nothing is in .*/run yet, so this run begins anew")
        self.save(4, "--load", self.dir)
        self.assertIn("step_000002, step 2\n", self.output)
        shutil.rmtree(self.dir)
        for steps in (1, 2):
            self.launch(ONE, *self.options("--steps", steps, "--load", self.dir, "--save", self.dir))
        self.assertIn("steps 2 to 2\n", self.output)

    def refuses(self, message, *options):
        before = self.steps()
        self.launch(FOUR, *self.options(*options), code=1)
        self.assertRegex(self.errors, message)
        self.assertEqual(self.errors.count("error: "), 1)
        self.assertEqual(self.steps(), before)

    def test_checkpoints_that_the_run_does_not_go_on_from(self):
        self.save(4)
        several = ["--save", self.dir, "--save-every", 2, "--steps", 9]
        other = "holds checkpoints that this run does not go on from, as step_000004; pass --load .*/run to go on"
        self.refuses(other, *several)
        self.refuses(other, "--save", self.dir)
        later = "holds later checkpoints than step 2, which this run goes on from, as step_000004; pass --load .*/run"
        self.refuses(later, *several, "--load", self.dir + "/step_000002")
        shutil.rmtree(self.dir)
        self.launch(ONE, *self.options("--steps", 2, "--save", self.dir))
        self.refuses("holds checkpoints that this run does not go on from, as .*/run; pass", *several)
        os.mkdir(self.dir + "/latest")
        self.refuses("latest is no link, but saving makes one; move it elsewhere", *several, "--load", self.dir)

    def test_files_of_others_stay(self):
        self.save(2)
        with open(self.dir + "/step_000002/notes.txt", "w") as file:
            file.write("kept")
        self.save(6, "--load", self.dir, "--keep", 1)
        self.assertEqual(self.steps(), ["latest", "step_000002", "step_000006"])
        self.assertEqual(os.listdir(self.dir + "/step_000002"), ["notes.txt"])

    def test_options_that_need_each_other(self):
        self.launch(ONE, "--save-every", 2, code=1)
        self.assertIn("--save-every needs a folder to save to; give --save DIR", self.errors)
        self.launch(ONE, "--keep", 2, "--save", self.dir, code=1)
        self.assertIn("--keep is of the checkpoints that --save-every writes; give both", self.errors)

    def test_one_run_at_a_time(self):
        os.mkdir(self.dir)
        busy = "error: --save: another run saves into .*/run now; let it end, or name another folder"
        for name, options in (("run/.lock", ["--save-every", 2]), ("run.lock", [])):
            with open(self.path(name), "w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                for more in ([], ["--save-every", 2]):
                    self.refuses(busy, "--save", self.dir, "--steps", 2, *more)
            # A lock that nobody holds any more is none.
            self.launch(FOUR, *self.options("--save", self.dir, "--steps", 2, *options))
            self.assertFalse(os.path.exists(self.path(name)))
            shutil.rmtree(self.dir)
            os.mkdir(self.dir)

    def test_a_disk_that_cannot_exchange_folders(self):
        disk = {"LD_PRELOAD": BAD_DISK}
        self.launch(FOUR, *self.options("--steps", 1, "--save", self.dir))
        with open(self.dir + "/config.json", "w") as file:
            file.write("{}")
        self.launch(FOUR, *self.options("--steps", 2, "--load", self.dir, "--save", self.dir), environment=disk)
        self.assertIn("config.json", self.steps())
        self.assertFalse(os.path.exists(self.dir + ".previous"))
        # Killed between the two renames: what was put aside is found.
        os.rename(self.dir, self.dir + ".previous")
        self.launch(FOUR, *self.options("--steps", 3, "--load", self.dir))
        self.assertRegex(self.errors, "warning: .*/run is not there, but .*run.previous, where a save that was stopped")
        self.launch(FOUR, *self.options("--steps", 3, "--load", self.dir, "--save", self.dir), environment=disk)
        self.launch(FOUR, *self.options("--steps", 4, "--load", self.dir))
        self.assertIn(", step 3\n", self.output)
        self.assertFalse(os.path.exists(self.dir + ".previous"))
        # What cannot take the old one's place stays beside it.
        os.makedirs(self.dir + ".previous/of others")
        options = self.options("--steps", 4, "--load", self.dir, "--save", self.dir)
        self.launch(FOUR, *options, environment=disk, code=73)
        self.assertRegex(self.errors, "run.previous is in the way of saving; .*; what was saved is in .*/run.unpublished\n")
        for name, step in (("run", 3), ("run.unpublished", 4)):
            self.launch(FOUR, *self.options("--steps", 5, "--load", self.path(name)))
            self.assertIn(f", step {step}\n", self.output)
        # The next save does not remove it.
        self.launch(FOUR, *self.options("--steps", 5, "--load", self.dir, "--save", self.dir))
        for name in ("run.previous", "run.unpublished"):
            shutil.rmtree(self.path(name))

    def test_several_that_were_put_aside(self):
        self.save(4)
        os.rename(self.dir, self.dir + ".previous")
        self.launch(FOUR, *self.options("--steps", 5, "--load", self.dir, "--save", self.dir))
        self.assertIn("run.previous/step_000004, step 4\n", self.output)
        self.launch(FOUR, *self.options("--steps", 6, "--load", self.dir))
        self.assertIn("run, step 5\n", self.output)
        self.assertFalse(os.path.exists(self.dir + ".previous"))

    def test_a_checkpoint_that_also_holds_others(self):
        self.launch(ONE, *self.options("--steps", 2, "--save", self.dir))
        for steps, start in ((4, ", step 2"), (6, "step_000004, step 4")):
            self.save(steps, "--load", self.dir)
            self.assertIn(start + "\n", self.output)
        self.launch(ONE, *self.options("--steps", 7, "--load", self.dir))
        self.assertIn("step_000006, step 6\n", self.output)
        # It is the newest itself, or not whole.
        self.launch(ONE, *self.options("--steps", 7, "--load", self.dir, "--save", self.dir))
        self.launch(ONE, *self.options("--steps", 8, "--load", self.dir))
        self.assertIn("run, step 7\n", self.output)
        later = "holds later checkpoints than step 6, which this run goes on from, as .*/run; pass --load .*/run"
        go_on = ["--load", self.dir + "/step_000006", "--save", self.dir, "--save-every", 2]
        self.refuses(later, *go_on, "--steps", 9)
        os.truncate(self.dir + "/training.json", 5)
        self.save(8, "--load", self.dir)
        self.assertRegex(self.errors, "warning: passed over a checkpoint: .*/run/training.json is damaged")
        self.assertIn("step_000006, step 6\n", self.output)

    def test_disks_that_cannot_tell(self):
        self.launch(ONE, *self.options("--steps", 1, "--save", self.path("one")))
        os.mkdir(self.dir)
        loop = self.path("loop")
        os.symlink("loop", loop)
        save, load = ["--save", loop], ["--load", loop]
        for options in (save, [*save, "--save-every", 1], load, [*load, *save]):
            self.refuses("error: --(save|load): cannot read .*loop: Too many levels of symbolic links\n", "--steps", 2, *options)
        self.refuses("error: --save: cannot read .*nnn: File name too long\n", "--steps", 2, "--save", self.path("n" * 300))
        for name in ("training.json", "checksums.xxh128", "optimizer.safetensors"):
            shutil.copytree(self.path("one"), self.path("looping"))
            os.remove(self.path("looping/" + name))
            os.symlink(name, self.path("looping/" + name))
            message = f"error: --load: cannot read .*looping/{name}: Too many levels of symbolic links\n"
            self.refuses(message, "--steps", 2, "--load", self.path("looping"))
            shutil.rmtree(self.path("looping"))
        os.remove(loop)

    def test_checksums_that_only_some_ranks_see(self):
        program = self.program(FOUR)
        places = []
        for rank, folder in enumerate(("here", "there")):
            self.launch(ONE, *self.options("--steps", 1, "--save", self.path(folder + "/own")))
            options = self.options("--steps", 2, "--load", "own")
            places += [":"] * rank + ["-np", 2, "-wdir", self.path(folder), f"{program}/stage{rank}", *options]
        os.remove(self.path("there/own/checksums.xxh128"))
        result = self.mpirun(["mpirun", *places])
        self.assertEqual(result.returncode, 1)
        message = "own/checksums.xxh128 is seen by some ranks only; put it where all nodes see it"
        self.assertRegex(result.stderr, message)

    def test_a_disk_that_fails_once_a_checkpoint_has_its_place(self):
        disk = {"LD_PRELOAD": BAD_DISK, "DISK_FAILS_AT": os.path.realpath(os.path.dirname(self.dir))}
        for step in (1, 2):  # where none was, and in place of another
            options = self.options("--steps", step, "--load", self.dir, "--save", self.dir)
            self.launch(FOUR, *options, environment=disk)
            self.assertRegex(self.errors, "warning: .*cannot write .*: Input/output error\n")
            self.assertEqual(self.errors.count("error: "), 0)
        self.launch(ONE, *self.options("--steps", 3, "--load", self.dir))
        self.assertIn("run, step 2\n", self.output)
        for name in ("run.previous", "run.partial", "run.unpublished"):
            self.assertFalse(os.path.exists(self.path(name)))

    def test_a_folder_whose_names_do_not_reach_the_disk(self):
        self.launch(ONE, *self.options("--steps", 1, "--save", self.dir))
        disk = {"LD_PRELOAD": BAD_DISK, "DISK_FAILS_AT": os.path.realpath(self.dir) + ".partial"}
        options = self.options("--steps", 2, "--load", self.dir, "--save", self.dir)
        self.launch(FOUR, *options, environment=disk, code=73)
        self.assertRegex(self.errors, "error: step 2 was not saved: cannot write .*run.partial: Input/output error\n")
        self.assertFalse(os.path.exists(self.dir + ".partial"))
        self.launch(ONE, *self.options("--steps", 3, "--load", self.dir))
        self.assertIn("run, step 1\n", self.output)

    def test_a_disk_that_keeps_what_is_open(self):
        disk = {"LD_PRELOAD": BAD_DISK, "DISK_KEEPS_OPEN": "1"}
        for step in (1, 2, 3):
            self.launch(FOUR, *self.options("--steps", step, "--load", self.dir, "--save", self.dir), environment=disk)
            self.assertEqual(self.errors, "")
        self.launch(ONE, *self.options("--steps", 4, "--load", self.dir))
        self.assertIn("run, step 3\n", self.output)
        self.assertFalse(os.path.exists(self.dir + ".previous"))
        shutil.rmtree(self.dir + ".partial")

    def test_a_disk_without_links_and_locks(self):
        self.save(2, environment={"LD_PRELOAD": BAD_DISK, "DISK_HAS_NO_LINKS": "1", "DISK_HAS_NO_LOCKS": "1"})
        for message in (
            r"no link can be made in .*/run \(Operation not permitted\), so there will be no latest",
            r"no lock can be had on .* \(No locks available\), so nothing keeps another run from saving there too",
        ):
            self.assertRegex(self.errors, f"warning: {message}\n")
        self.assertEqual(self.steps(), ["step_000002"])

    def test_a_disk_that_keeps_names(self):
        for name, message in (
            ("latest.partial", "cannot point .*/run/latest to step_000004"),
            ("step_000002", "cannot remove .*/run/step_000002"),
        ):
            disk = {"LD_PRELOAD": BAD_DISK, "DISK_KEEPS_NAME": os.path.join(os.path.realpath(self.dir), name)}
            self.save(4, "--keep", 1, environment=disk)
            self.assertRegex(self.errors, f"warning: .*{message}: Device or resource busy\n")
            self.launch(ONE, *self.options("--steps", 5, "--load", self.dir))
            self.assertIn("/step_000004, step 4\n", self.output)
            shutil.rmtree(self.dir)

    def test_a_full_disk_ends_nothing(self):
        sign = self.path("full")
        disk = {"LD_PRELOAD": BAD_DISK, "DISK_IS_FULL": sign}
        self.save(2)
        with open(sign, "w"):
            self.save(5, "--load", self.dir, environment=disk, code=73)
        for step in (4, 5):
            message = f"error: step {step} was not saved: cannot write .*No space left on device\n"
            self.assertRegex(self.errors, message)
        self.assertEqual(self.errors.count("error: "), 2)
        self.assertEqual(self.steps(), ["latest", "step_000002"])
        self.assertIn("step 5/5", self.output)
        os.remove(sign)
        self.save(5, "--load", self.dir, environment=disk)
        self.assertEqual(self.steps(), ["latest", "step_000002", "step_000004", "step_000005"])

    def test_beside_the_steps_the_files_are_the_same(self):
        slow = {"LD_PRELOAD": BAD_DISK, "DISK_IS_SLOW": "20000"}
        self.save(7, "--save-sync", "--shard-size", "400B")
        shutil.move(self.dir, self.path("at once"))
        self.save(7, "--shard-size", "400B", environment=slow)
        self.assertEqual(self.steps(), ["latest", "step_000002", "step_000004", "step_000006", "step_000007"])
        for step in self.steps():
            self.assertEqual(os.listdir(f"{self.dir}/{step}"), os.listdir(f"{self.path('at once')}/{step}"))
            for name in os.listdir(f"{self.dir}/{step}"):
                with open(f"{self.dir}/{step}/{name}", "rb") as a, open(f"{self.path('at once')}/{step}/{name}", "rb") as b:
                    self.assertEqual(a.read(), b.read(), f"{step}/{name}")
            if step != "latest":
                command = ["xxh128sum", "-c", "checksums.xxh128"]
                subprocess.run(command, cwd=f"{self.dir}/{step}", stdout=subprocess.DEVNULL, check=True)
        # Steps went on meanwhile.
        self.assertLess(self.output.index("step 3/7"), self.output.index("step 2\n"))
        shutil.rmtree(self.path("at once"))

    def test_killed_at_any_point_of_a_save_beside_the_steps(self):
        """While it is copied and files are made, written, hashed, published, linked, and the old one is removed."""
        whole, log = self.path("uninterrupted"), self.path("killed.csv")
        saving = ["--save-every", 2, "--keep", 1, "--shard-size", "400B"]
        options = self.options("--steps", 7, "--log", log)
        self.launch(FOUR, *options, "--save", whole, *saving)
        expected = [row[:4] for row in self.log(log)]
        fresh = "step_000004.partial"
        for call, newest in [
            (f"open 1 {fresh}/model-00001-of-00003.safetensors", 2),
            (f"pwrite 1 {fresh}/optimizer-00002-of-00005.safetensors", 2),
            (f"open 1 {fresh}/training.json", 2),
            (f"open 1 {fresh}/checksums.xxh128", 2),
            (f"fsync 1 {fresh}/checksums.xxh128", 2),
            (f"rename 1 {fresh}", 2),
            ("symlink 3 latest.partial", 4),  # after the trial at the start and step 2
            ("rename 2 latest.partial", 4),
            ("rename 1 run/step_000002", 4),
        ]:
            with self.subTest(call=call):
                shutil.rmtree(self.dir, ignore_errors=True)
                os.remove(log)
                killed = {"LD_PRELOAD": BAD_DISK, "DISK_KILLS": call}
                self.launch(FOUR, *options, "--save", self.dir, *saving, environment=killed, code=70)
                self.assertRegex(self.errors, "error: .*(died|was killed)")
                self.launch(FOUR, *options, "--load", self.dir, "--save", self.dir, *saving)
                self.assertIn(f"step_00000{newest}, step {newest}\n", self.output)
                self.assertEqual([row[:4] for row in self.log(log)], expected)
                self.assertEqual(self.steps(), ["latest", "step_000007"])
                for name in os.listdir(self.dir + "/latest"):
                    with open(f"{self.dir}/latest/{name}", "rb") as a, open(f"{whole}/latest/{name}", "rb") as b:
                        self.assertEqual(a.read(), b.read(), name)
        shutil.rmtree(whole)

    def test_a_disk_without_room_is_told_at_the_start(self):
        for blocks, count in ((0, 1), (100, 0)):
            self.save(2, environment={"LD_PRELOAD": BAD_DISK, "DISK_ROOM": str(blocks)})
            message = "warning: the disk of --save .*/run has room for 0 bytes, but a checkpoint takes 2496; make room, or"
            self.assertEqual(len(re.findall(message, self.errors)), count, self.errors)
            self.assertEqual(self.steps(), ["latest", "step_000002"])
            shutil.rmtree(self.dir)

    def test_without_memory_for_a_copy(self):
        for kibibytes, message in ((1, "host .* has 1.0 KiB of memory to give, but a copy of the state of its ranks takes"), (8000, "")):
            with open(self.path("meminfo"), "w") as file:
                file.write(f"MemTotal: 100000 kB\nMemAvailable:   {kibibytes} kB\n")
            memory = {"LD_PRELOAD": BAD_DISK, "HOST_MEMORY": self.path("meminfo")}
            self.save(3, environment=memory)
            self.assertRegex(self.errors, f"warning: saving is synchronous: {message}" if message else "^$")
            self.assertEqual(self.steps(), ["latest", "step_000002", "step_000003"])
            self.assertEqual("host bytes  [" in self.output, not message)
            shutil.rmtree(self.dir)

    def test_logs(self):
        log, save = self.path("own.csv"), self.path("for the log")
        self.launch(FOUR, *self.options("--steps", 1, "--save", save, "--log", "/dev/full"))
        message = "error: cannot write the log /dev/full: No space left on device; what it lacks is kept and tried again\n"
        self.assertEqual(self.errors, message)
        go_on = self.options("--steps", 3, "--load", save, "--log", log)
        for text, message in [
            ("step,loss\n1,2\n", "the log .*own.csv begins with 'step,loss', not with step,loss,lr,.*; name another file"),
            ("step,loss,lr,grad_norm,tokens_per_second,peak_bytes\none,2\n", "the log .* has the row 'one,2' without a"),
        ]:
            with open(log, "w") as file:
                file.write(text)
            self.launch(FOUR, *go_on, code=1)
            self.assertRegex(self.errors, message)
            with open(log) as file:
                self.assertEqual(file.read(), text)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[4:], verbosity=2)
