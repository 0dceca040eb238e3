"""Archives changed as their formats are built, for galvatron-import: none may end it but with an import or one error.

    python test/Fuzz/Archives/fuzz_archives.py --count 10000 [--seed 0] [--first 0] [--keep DIR] [--result FILE.json]

Input number `i` of a seed is the same wherever it is made: `--first` goes on where a run stopped, and `--first i --count 1`
makes one again. The seeds of mutation are modules traced and scripted here. What is changed:

- zip: entries dropped, doubled, renamed, exchanged, cut, packed; numbers of the directory; bytes anywhere
- pickles: integers, lengths and memo numbers replaced by others at the edges; opcodes dropped, doubled and moved; texts
- code: tokens dropped, doubled, exchanged; numbers replaced by others at the edges; operators by others that exist
- galvatron.json: values replaced by others of other kinds
"""

from __future__ import annotations

import argparse
import collections
import io
import json
import pickletools
import random
import re
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
NUMBERS = [0, 1, -1, 2, -2, 3, 7, 16, 63, 64, 255, 256, 65535, 65536, 2**31 - 1, 2**31, -(2**31), 2**32, 2**53, 2**62, 2**63 - 1, -(2**63)]


def seeds(folder: Path) -> list[list[tuple[str, bytes]]]:
    """Entries of sound archives, below their own folder."""
    import torch
    from torch import nn
    from torch.nn import functional

    from galvatron import export

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(32, 8)
            self.norm = nn.LayerNorm(8)
            self.head = nn.Linear(8, 32, bias=False)
            self.head.weight = self.table.weight
            self.register_buffer("mask", torch.ones(16, 16).tril().bool())
            self.query = nn.Linear(8, 8)

        def forward(self, input_ids, labels):
            x = self.table(input_ids) + torch.linspace(0, 1, 8)
            q, k = self.query(x).split(4, -1)
            scores = (q @ k.transpose(1, 2)).masked_fill(~self.mask, -1e9).softmax(-1)
            x = self.norm(x + torch.cat([scores @ q, k.flip(1)], -1).permute(0, 1, 2).roll(1, 1))
            x = x.view(2, 16, 2, 4).chunk(2, 2)[0].repeat(1, 1, 2, 1).flatten(2)
            return functional.cross_entropy(self.head(x).flatten(0, 1), labels.flatten())

    class Scripted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.ones(32, 8))
            self.numbers = [1, 2, 3]
            self.register_buffer("scale", torch.arange(8.0))

        def forward(self, input_ids, labels):
            x = torch.embedding(self.table, input_ids) * self.scale
            for i in range(x.size(1) - 14):
                if i % 2 == 0:
                    x = torch.cos(x) + x.select(1, i).unsqueeze(1)
                else:
                    x = torch.einsum("abc,adc->abc", [x, x]) / self.numbers[i]
            return x.index_select(1, torch.arange(4)).sum([0, 1]).var() + torch.constant_pad_nd(x, [1, 1]).mean()

    ids = torch.arange(32).reshape(2, 16)
    torch.jit.trace(Model(), (ids, ids), check_trace=False).save(str(folder / "traced.pt"))
    torch.jit.script(Scripted()).save(str(folder / "scripted.pt"))
    export.save(Model(), (ids, ids), folder / "exported.pt")
    result = []
    for name in ("traced", "scripted", "exported"):
        with zipfile.ZipFile(folder / f"{name}.pt") as archive:
            result.append([(entry.split("/", 1)[1], archive.read(entry)) for entry in archive.namelist()])
    return result


def packed(entries: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED, folder: str = "m/") -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", method) as archive:
        for name, content in entries:
            archive.writestr(folder + name, content)
    return memory.getvalue()


def opcodes(content: bytes) -> list[bytes]:
    """A pickle's instructions."""
    places = [place for _, _, place in pickletools.genops(content)] + [len(content)]
    return [content[a:b] for a, b in zip(places, places[1:])]


def integer(value: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", value)


def change_pickle(content: bytes, chance: random.Random) -> bytes:
    parts = opcodes(content)
    for _ in range(chance.choice([1, 1, 1, 2, 5])):
        i = chance.randrange(len(parts))
        kind = chance.randrange(9)
        integers = [j for j, part in enumerate(parts) if part[:1] in (b"K", b"M", b"J", b"\x8a")]
        if kind <= 2 and integers:
            parts[chance.choice(integers)] = integer(chance.choice(NUMBERS))
        elif kind == 3:
            parts.insert(chance.randrange(len(parts)), parts[i])
        elif kind == 4:
            del parts[i]
        elif kind == 5:
            j = chance.randrange(len(parts))
            parts[i], parts[j] = parts[j], parts[i]
        elif kind == 6:
            parts[i] = chance.choice([b"(", b"t", b"]", b"}", b"e", b"u", b"R", b"Q", b"b", b"\x81", b")", b"N", b"0", b"2", b"q\x00", b"h\x00", b"cos\nsystem\n", b"\x88", b"."])
        elif kind == 7:
            parts[i] = chance.choice([b"(", b"]", b"}", b"h\x01"]) * chance.choice([10, 1000, 100000])
        else:
            texts = [j for j, part in enumerate(parts) if part[:1] == b"X"]
            if texts:
                text = chance.choice([b"", b"../x", b"\xff\xfe", b"0", b"99", b"storage", b"List[" * 50, b"a" * 70000, b"weight"])
                parts[chance.choice(texts)] = b"X" + struct.pack("<I", chance.choice([len(text), len(text), 2**31])) + text
        if not parts:
            break
    return b"".join(parts)


OPERATORS = "chunk split permute sum mean view expand transpose flatten roll repeat cat stack flip gather embedding matmul einsum softmax layer_norm arange zeros ones full linspace tril triu slice select narrow unbind index_select cumsum diff var logsumexp prod pad unsqueeze squeeze t movedim save load sort topk nonzero".split()
TOKEN = re.compile(r'"(?:[^"\\\n]|\\.)*"|[A-Za-z_]\w*|\d[\w.]*|\s+|.', re.S)


def change_code(text: str, chance: random.Random) -> str:
    tokens = TOKEN.findall(text)
    for _ in range(chance.choice([1, 1, 2, 5])):
        i, kind = chance.randrange(len(tokens)), chance.randrange(9)
        numbers = [j for j, token in enumerate(tokens) if token[0].isdigit()]
        calls = [j for j in range(2, len(tokens)) if tokens[j - 1] == "." and tokens[j - 2] == "torch"]
        if kind <= 3 and numbers:
            tokens[chance.choice(numbers)] = chance.choice([str(number) for number in NUMBERS] + ["1.5", "1e400", "True", "None"])
        elif kind <= 5 and calls:
            tokens[chance.choice(calls)] = chance.choice(OPERATORS)
        elif kind == 6:
            tokens.insert(i, tokens[chance.randrange(len(tokens))])
        elif kind == 7:
            del tokens[i]
        else:
            tokens[i] = chance.choice(["(", "[", "- ", "not ", "x + "]) * chance.choice([1, 300, 100000]) + tokens[i]
        if not tokens:
            break
    return "".join(tokens)


def change_json(text: str, chance: random.Random) -> str:
    root = json.loads(text)
    places = []

    def visit(value) -> None:
        for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
            places.append((value, key))
            visit(value[key])

    visit(root)
    for _ in range(chance.choice([1, 1, 3])):
        holder, key = chance.choice(places)
        holder[key] = chance.choice([None, [], {}, [[]], "", "\x00", "a/b", 1.5, True, *NUMBERS, "head.weight", ["table.weight", "query.weight"]])
    text = json.dumps(root)
    return text if chance.random() < 0.9 else text[:-1] + "," + '"x":' + "[" * 100000 + "]" * 100000 + "}"


def change_bytes(content: bytes, chance: random.Random, begin: int = 0) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.choice([1, 2, 8])):
        i = chance.randrange(begin, len(changed))
        if chance.random() < 0.5:
            changed[i] = chance.randrange(256)
        else:
            number = struct.pack("<q", chance.choice(NUMBERS))[: chance.choice([1, 2, 4, 8])]
            changed[i : i + len(number)] = number
    return bytes(changed)


def change(entries: list[tuple[str, bytes]], chance: random.Random) -> bytes:
    entries = list(entries)

    def apply(matches, function) -> None:
        found = [i for i, (name, content) in enumerate(entries) if matches(name) and content]
        if found:
            i = chance.choice(found)
            entries[i] = (entries[i][0], function(entries[i][1]))

    kind = chance.choices(["pickle", "debug", "code", "json", "entries", "zip"], [30, 8, 35, 7, 10, 10])[0]
    if kind == "pickle":
        apply(lambda name: name in ("data.pkl", "data.pkl", "constants.pkl"), lambda content: change_pickle(content, chance))
    elif kind == "debug":
        apply(lambda name: name.endswith(".debug_pkl"), lambda content: change_pickle(content, chance))
    elif kind == "code":
        apply(lambda name: name.endswith(".py"), lambda content: change_code(content.decode(), chance).encode())
    elif kind == "json":
        apply(lambda name: name.endswith(".json"), lambda content: change_json(content.decode(), chance).encode())
    elif kind == "entries":
        i, j = chance.randrange(len(entries)), chance.randrange(len(entries))
        name, content = entries[i]
        what = chance.randrange(6)
        if what == 0:
            del entries[i]
        elif what == 1:
            entries[i] = (name, content[: chance.randrange(len(content) + 1)])
        elif what == 2:
            entries[i] = (chance.choice(["../x", "/x", name.upper(), "code/x.py", "model.json", "a\\b", "x" * 2000]), content)
        elif what == 3:
            entries[i], entries[j] = (name, entries[j][1]), (entries[j][0], content)
        elif what == 4:
            entries.append((entries[j][0], content))
        else:
            entries[i] = (name, change_bytes(content, chance) if content else b"x")
    archive = packed(entries, chance.choices([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], [9, 1])[0])
    if kind == "zip":
        directory = struct.unpack("<I", archive[-6:-2])[0]
        archive = change_bytes(archive, chance, directory if chance.random() < 0.8 else 0)
        if chance.random() < 0.1:
            archive = archive[: chance.randrange(len(archive))]
    return archive


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--build", type=Path, default=ROOT / "build")
    parser.add_argument("--keep", type=Path, help="folder for inputs that end a process")
    parser.add_argument("--result", type=Path, help="figures, as JSON")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT / "python"))
    outcomes, dead, slowest, begin = collections.Counter(), [], 0.0, time.monotonic()
    messages: collections.Counter = collections.Counter()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        sound = seeds(folder)
        path = folder / "input.pt"
        with subprocess.Popen(
            [options.build / "bin" / "fuzz-import", folder / "o.mlir"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as importer:
            for number in range(options.first, options.first + options.count):
                chance = random.Random(f"{options.seed} {number}")
                import warnings

                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of names that stand twice
                    content = change(chance.choice(sound), chance)
                path.write_bytes(content)
                started = time.monotonic()
                importer.stdin.write(f"{path}\n")
                importer.stdin.flush()
                line = importer.stdout.readline().strip()
                slowest = max(slowest, time.monotonic() - started)
                outcome, _, rest = line.partition(" ")
                outcomes[outcome or "nothing"] += 1
                messages[re.sub(r"\d+|'.*?'|\S*/\S*", "#", rest)[:90]] += 1
                if outcome not in ("imported", "refused"):
                    dead.append(number)
                    print(f"seed {options.seed}, input {number}: {line}", flush=True)
                    if options.keep:
                        options.keep.mkdir(parents=True, exist_ok=True)
                        (options.keep / f"{options.seed}-{number}.pt").write_bytes(content)
            importer.stdin.close()
    figures = {
        "seed": options.seed,
        "first": options.first,
        "inputs": options.count,
        **{name: outcomes[name] for name in ("imported", "refused", "died")},
        "different_messages": len(messages),
        "slowest_s": round(slowest, 2),
        "seconds": round(time.monotonic() - begin, 1),
        "ended_by": dead,
    }
    print(json.dumps(figures))
    if options.result:
        options.result.write_text(json.dumps(figures, indent=2) + "\n")
    return 1 if dead or sum(outcomes.values()) != outcomes["imported"] + outcomes["refused"] else 0


if __name__ == "__main__":
    sys.exit(main())
