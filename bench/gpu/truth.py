"""Whether predictions come true on a GPU: a profile is taken, all plans are predicted from it, then they run.

    . scripts/env.sh
    python bench/gpu/truth.py prepare -o build/gpu-truth                     # here: programs and bodies
    python3 bench/gpu/truth.py run build/gpu-truth --out results             # there, on one GPU

run calls galvatron-profile (hardware, then each prepared model) and galvatron-search --predict for every program, writes
predictions.json, and only then starts the first of them. Long sequences are predicted twice: from bodies of that length, and from
those of 4,096 to 16,384 tokens alone (`short`). Results go to truth.json as they come: error of the step, memory told
against memory in use. --only is parts of programs' names, and measures no other model's bodies; --parts says which of profile, predict and run are done, so that a later call
goes on where an earlier one stopped with the same --out.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import programs  # noqa: E402
import running  # noqa: E402

PARTS = ("profile", "predict", "run")
MEAN, LARGEST, MEMORY = 0.03, 0.06, 0.01  # allowed: errors of steps, memory over
SHORT = (4096, 8192, 16384)
TOOLS = ("galvatron-profile", "galvatron-search")


@dataclasses.dataclass(frozen=True)
class Model:
    """`bodies`: samples and tokens that are measured; `cases`: name, samples of a micro-batch, tokens, plan, precision."""

    name: str
    config: dict
    bodies: tuple[tuple[int, int], ...]
    cases: tuple[tuple[str, int, int, programs.Layout, str], ...]


def recomputed(units: int, every: int) -> tuple[bool, ...]:
    """Every so manieth layer."""
    return tuple(0 < unit < units - 1 and unit % every == 0 for unit in range(units))


def models(size: str) -> list[Model]:
    one, again, half = programs.Layout(), programs.Layout(recompute=recomputed(10, 1)), programs.Layout(recompute=recomputed(10, 2))
    several = {count: dataclasses.replace(one, micro_batches=count) for count in (2, 4, 8)}
    if size == "tiny":
        tiny = programs.llama(128, 256, 8, 8, 4, 256, 512)
        return [
            Model("tiny", tiny, ((1, 64), (2, 64)), (("one", 2, 64, one, "fp32"), ("half", 1, 64, half, "fp32"))),
            Model("long", tiny, ((1, 32), (1, 256)), (("256", 1, 256, again, "fp32"),)),
        ]
    small, large = programs.LLAMA2_7B | {"num_hidden_layers": 8}, programs.LLAMA3_8B | {"num_hidden_layers": 8}
    long = large | {"max_position_embeddings": 131072}
    gpt = programs.gpt2(1600, 48, 25, 1024, 50304)
    return [
        Model(
            "llama2-7b-8l",
            small,
            ((1, 4096), (2, 4096), (4, 4096)),
            (
                ("m1", 4, 4096, one, "bf16"),
                ("m4", 1, 4096, several[4], "bf16"),
                ("m8", 1, 4096, several[8], "bf16"),
                ("recompute", 4, 4096, again, "bf16"),
                ("half-m2", 2, 4096, dataclasses.replace(half, micro_batches=2), "bf16"),
                ("fp32", 1, 4096, one, "fp32"),
                ("fp32-m2", 1, 4096, several[2], "fp32"),
            ),
        ),
        Model(
            "llama3-8b-8l",
            large,
            ((1, 8192), (2, 8192)),
            (
                ("m1", 2, 8192, one, "bf16"),
                ("m2", 1, 8192, several[2], "bf16"),
                ("recompute", 2, 8192, again, "bf16"),
            ),
        ),
        Model("gpt2-1558m", gpt, ((2, 1024), (16, 1024)), (("m1", 16, 1024, one, "bf16"), ("m8", 2, 1024, several[8], "bf16"))),
        Model(
            "llama3-8b-long",
            long,
            ((1, 4096), (1, 8192), (1, 16384), (1, 32768), (1, 65536), (1, 131072)),
            (
                ("32k", 1, 32768, one, "bf16"),
                ("32k-recompute", 1, 32768, again, "bf16"),
                ("64k-recompute", 1, 65536, again, "bf16"),
                ("128k-recompute", 1, 131072, again, "bf16"),
            ),
        ),
    ]


def is_wanted(name: str, arguments: argparse.Namespace) -> bool:
    return any(part in name for part in arguments.only.split(","))


def prepare(arguments: argparse.Namespace) -> int:
    import prepare as building  # needs the compiler's environment

    shutil.rmtree(arguments.output, ignore_errors=True)
    builder, listed, bodies = building.Builder(arguments), [], []
    for model in models(arguments.size):
        for name, samples, seq, layout, precision in model.cases:
            if not is_wanted(f"{model.name}-{name}", arguments):
                continue
            program = builder.imported(f"{model.name}-{seq}-{samples * layout.micro_batches}", model.config,
                                       samples * layout.micro_batches, seq)
            entry = {"model": model.name, "precision": precision, "plan": name, "folder": f"programs/{model.name}-{name}"}
            entry |= {"seq": seq, "tokens": samples * layout.micro_batches * seq}
            plan = layout.plan(programs.units(model.config), samples * layout.micro_batches)
            builder.add(listed, program=program, layout=plan, **entry)
        precisions = {case["precision"] for case in listed if case["model"] == model.name}
        for precision in sorted(precisions):
            for samples, seq in model.bodies:
                program = builder.imported(f"{model.name}-{seq}-{samples}", model.config, samples, seq)
                folder = f"bodies/{model.name}-{precision}-{samples}x{seq}"
                options = ["--target", arguments.target, "--precision", precision, "--micro-batch", samples, "--ranks", 1]
                began = time.monotonic()
                building.succeed(
                    "galvatron-profile", "model", program, *options, "--model-name", model.name, "--prepare", arguments.output / folder
                )
                bodies.append({"model": model.name, "precision": precision, "samples": samples, "seq": seq, "folder": folder})
                print(f"{folder}: prepared in {time.monotonic() - began:.1f} s", flush=True)
    for tool in TOOLS:
        (arguments.output / "bin").mkdir(exist_ok=True)
        shutil.copy(shutil.which(tool), arguments.output / "bin")
    shutil.copy(Path(shutil.which("galvatron-opt")).resolve().parent.parent / f"lib/libgalvatron_{arguments.target}.so",
                arguments.output / "lib")
    shutil.rmtree(builder.work)
    index = {"device": arguments.target, "programs": listed, "bodies": bodies}
    (arguments.output / programs.INDEX).write_text(json.dumps(index, indent=1) + "\n")
    for failure in builder.failures:
        print(f"truth: error: {failure}", file=sys.stderr)
    return 1 if builder.failures else 0


class Truth:
    def __init__(self, arguments: argparse.Namespace):
        self.arguments, self.folder, self.out = arguments, arguments.folder.resolve(), arguments.out.resolve()
        self.index = json.loads((self.folder / programs.INDEX).read_text())
        self.devices = running.Devices()
        self.runner = running.Runner(1, self.out / "truth-logs", self.devices)
        self.env = running.environment(self.folder / "lib")
        self.began = time.monotonic()
        self.kept = self.out / "truth.json"
        self.rows: dict[str, dict] = json.loads(self.kept.read_text())["rows"] if self.kept.exists() else {}

    def keep(self) -> None:
        hardware = self.devices.describe()
        written = {"date": str(datetime.date.today()), "hardware": hardware, "allowed": {"mean": MEAN, "largest": LARGEST}}
        self.kept.write_text(json.dumps(written | {"rows": self.rows}, indent=1) + "\n")

    def told(self, text: str) -> None:
        print(f"{time.monotonic() - self.began:6.1f} s  {text}", flush=True)

    def tool(self, name: str, *options) -> subprocess.CompletedProcess:
        command = [str(word) for word in (self.folder / "bin" / name, *options)]
        return subprocess.run(command, capture_output=True, text=True, env=self.env, stdin=subprocess.DEVNULL)

    def profiles(self, precision: str) -> dict[str, Path]:
        """Folders of the whole profile, and of the one that knows short sequences alone."""
        return {"whole": self.out / f"profile-{precision}", "short": self.out / f"profile-{precision}-short"}

    def measure(self, name: str, *options) -> None:
        began = time.monotonic()
        result = self.tool("galvatron-profile", *options, "--target", self.index["device"], "--ranks", 1, "--quiet")
        said = "".join(f"\n          {line}" for line in result.stderr.strip().splitlines()[-4:])
        self.told(f"profile {name}: {'ok' if result.returncode == 0 else 'FAILED'}, {time.monotonic() - began:.1f} s{said}")

    def profile(self) -> None:
        limit = self.arguments.time_limit
        wanted = {(program["model"], program["precision"]) for program in self.wanted()}
        for precision in sorted({precision for _, precision in wanted}):
            # Of messages there are none on one device.
            kinds = "gemm,attention,copy,elementwise,to_host,from_host,layers"
            whole, short = (str(folder) for folder in self.profiles(precision).values())
            common = ("--precision", precision)
            # What has a body needs few kernels: half the time for fp32, which few plans have.
            own = limit if precision != "fp32" else limit // 2
            self.measure(f"hardware {precision}", "hardware", "-o", whole, "--time-limit", own, "--kinds", kinds, *common)
            mine = [
                entry for entry in self.index["bodies"] if entry["precision"] == precision and (entry["model"], precision) in wanted
            ]
            for is_long in (False, True):
                for entry in mine:
                    if (entry["seq"] not in SHORT and entry["model"].endswith("long")) == is_long:
                        bodies = self.folder / entry["folder"]
                        self.measure(entry["folder"], "model", bodies, "-o", whole, "--micro-batch", entry["samples"], "--time-limit", limit, *common)
                if not is_long:
                    shutil.rmtree(short, ignore_errors=True)
                    shutil.copytree(whole, short)

    def predict(self) -> None:
        for program in self.wanted():
            row = self.rows.setdefault(self.name(program), {})
            for kind, folder in self.profiles(program["precision"]).items():
                result = self.tool(
                    "galvatron-search", "--predict", self.folder / program["folder"], "--profile", folder / "profile.json"
                )
                if result.returncode != 0:
                    self.told(f"{self.name(program)}: NOT PREDICTED ({kind}): {result.stderr.strip()[-300:]}")
                    continue
                row[kind] = json.loads(result.stdout)["predicted_step_seconds"]
        stamp = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        (self.out / "predictions.json").write_text(json.dumps({"written": stamp, "rows": self.rows}, indent=1) + "\n")
        self.keep()

    def wanted(self) -> list[dict]:
        return [program for program in self.index["programs"] if is_wanted(self.name(program), self.arguments)]

    @staticmethod
    def name(program: dict) -> str:
        return f"{program['model']}-{program['plan']}"

    def run(self) -> None:
        for program in self.wanted():
            name, row = self.name(program), self.rows.setdefault(self.name(program), {})
            left = self.arguments.deadline - (time.monotonic() - self.began)
            # A step is known before it runs: as many of them as tell something, in bounded time.
            guess = row.get("whole", 1.0)
            steps = self.arguments.warmup + max(3, min(self.arguments.steps, int(15 / guess)))
            if "measured" in row or left < 30 + steps * guess:
                self.told(f"{name}: {'measured before' if 'measured' in row else 'no time left'}")
                continue
            log = self.out / f"{name}.csv"
            log.unlink(missing_ok=True)
            command = ["sh", self.folder / program["folder"] / "launch", "--steps", steps, *programs.RACE, "--log", log]
            result = self.runner.run(name, command, 1, min(left, self.arguments.timeout), self.env)
            if not result.passed:
                self.told(f"{name}: FAILED: {result.why}")
                row["failed"] = result.why
                continue
            seconds = [program["tokens"] / float(line["tokens_per_second"]) for line in running.read_log(log)]
            row["steps"], row["measured"] = seconds, statistics.median(seconds[self.arguments.warmup :])
            row |= {kind + "_error": row[kind] / row["measured"] - 1 for kind in ("whole", "short") if kind in row}
            row |= {"watts": result.state("watts"), "sm_mhz": result.state("sm_mhz"), "start_seconds": result.seconds - sum(seconds)}
            if result.used:
                plan = json.loads((self.folder / program["folder"] / "plan.json").read_text())
                told = plan["peak_bytes_per_rank"][0] + plan["reserved_bytes_per_rank"][0]
                row |= {"told_bytes": told, "used_bytes": result.used[0], "memory_over": told / result.used[0] - 1}
            errors = ", ".join(f"{kind} {100 * row[kind + '_error']:+.1f} %" for kind in ("whole", "short") if kind in row)
            over = f", memory {100 * row['memory_over']:+.2f} %" if result.used else ""
            self.told(f"{name}: {1e3 * row['measured']:.1f} ms, {errors}{over}, {row['watts']:.0f} W {row['sm_mhz']:.0f} MHz")
            self.keep()

    def all(self) -> bool:
        running.make_executable(self.folder)
        for part in self.arguments.parts:
            {"profile": self.profile, "predict": self.predict, "run": self.run}[part]()
        errors = [abs(row["whole_error"]) for row in self.rows.values() if "whole_error" in row]
        if not errors:
            return False
        mean, largest = sum(errors) / len(errors), max(errors)
        memory = [row["memory_over"] for row in self.rows.values() if "memory_over" in row]
        self.told(f"{len(errors)} plans: mean |error| {mean:.2%} of {MEAN:.0%}, largest {largest:.2%} of {LARGEST:.0%}; "
                  f"memory {min(memory, default=0):+.2%} to {max(memory, default=0):+.2%}")
        return mean <= MEAN and largest <= LARGEST and all(0 <= over <= MEMORY for over in memory)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="action", required=True)
    add = commands.add_parser("prepare", help="builds programs and bodies into one folder").add_argument
    add("-o", "--output", type=Path, default=Path("build/gpu-truth"), help="default: build/gpu-truth")
    add("--target", choices=("cuda", "cpu"), default="cuda", help="device of the programs (default: cuda)")
    add("--size", choices=("full", "tiny"), default="full", help="tiny: for a machine without a GPU")
    add("--only", default="", help="programs whose names hold one of these, separated by commas")
    add = commands.add_parser("run", help="measures, predicts and runs what was prepared").add_argument
    add("folder", type=Path, help="what prepare wrote")
    add("--out", type=Path, default=Path("gpu-truth"), help="results and logs (default: gpu-truth)")
    add("--parts", default=",".join(PARTS), help=f"some of {','.join(PARTS)} (default: all)")
    add("--only", default="", help="programs whose names hold one of these, separated by commas")
    add("--time-limit", type=int, default=60, help="seconds of the hardware, and of each prepared model (default: 60)")
    add("--warmup", type=int, default=3, help="steps not counted (default: 3)")
    add("--steps", type=int, default=12, help="steps counted, fewer where they are long (default: 12)")
    add("--timeout", type=float, default=200, help="seconds of one program (default: 200)")
    add("--deadline", type=float, default=560, help="seconds after which nothing is started (default: 560)")
    return running.prepare_or_judge(parser, PARTS, prepare, Truth)


if __name__ == "__main__":
    sys.exit(main())
