"""Archives from strangers: what galvatron-import refuses before anything of them is loaded, each naming the entry.

Each is a sound archive with one thing changed, as no fuzzer would by chance.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from importing import Small, check_refused, needs_importer, run_importer, scripted
from torch import nn

from galvatron import export

pytestmark = needs_importer

IDS = torch.arange(32).reshape(2, 16) % 32


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> dict[str, bytes]:
    """Entries of an archive that imports."""
    path = tmp_path_factory.mktemp("sound") / "model.pt"
    torch.jit.trace(Small(lambda x: x * torch.tensor([2.0] * 8)), (IDS, IDS), check_trace=False).save(str(path))
    with zipfile.ZipFile(path) as archive:
        return {name.split("/", 1)[1]: archive.read(name) for name in archive.namelist()}


def write(path: Path, entries, packed: bool = False) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        for name, content in entries.items() if isinstance(entries, dict) else entries:
            archive.writestr(f"model/{name}", content)
    return path


def refused(tmp_path: Path, message: str, entries, packed: bool = False) -> None:
    path = write(tmp_path / "model.pt", entries, packed)
    check_refused(tmp_path, message, path, "--batch", 2, "--seq", 16)


def code_of(entries: dict[str, bytes]) -> str:
    return next(n for n in entries if n.startswith("code/") and n.endswith(".py") and b"class Small" in entries[n])


def with_code(entries: dict[str, bytes], change) -> dict[str, bytes]:
    name = code_of(entries)
    kept = {n: c for n, c in entries.items() if not n.endswith(".debug_pkl")}
    changed = change(kept[name].decode())
    assert changed != kept[name].decode()
    return kept | {name: changed.encode()}


def test_sound_archive_is_imported(sound, tmp_path):
    done = run_importer(write(tmp_path / "model.pt", sound), "--batch", 2, "--seq", 16, "-o", tmp_path / "model.mlir")
    assert done.returncode == 0, done.stderr


#
# Code
#


class Loaded(torch.nn.Module):
    """Loading it calls __setstate__."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.ones(32, 8))

    @torch.jit.export
    def __getstate__(self) -> tuple[torch.Tensor, bool]:
        return (self.table, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]) -> None:
        print("loaded")
        self.table = state[0]
        self.training = state[1]

    def forward(self, input_ids, labels):
        return torch.embedding(self.table, input_ids).mean()


def test_setstate(tmp_path):
    path = tmp_path / "model.pt"
    torch.jit.script(Loaded()).save(str(path))
    message = r"entry code/\S+\.py: line \d+ has __getstate__, which loading the archive would run"
    check_refused(tmp_path, message, path, "--batch", 2, "--seq", 16)
    without = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            text = archive.read(name)
            without[name.split("/", 1)[1]] = text.replace(b"def __getstate__", b"def __gotstate__")
    refused(tmp_path, message.replace("__getstate__", "__setstate__"), without)
    # A file that it would write: the operator is refused by its name, too.
    writing = {name: text.replace(b'print("loaded")', b'torch.save(1, "written")') for name, text in without.items()}
    refused(tmp_path, "has (__setstate__|operator torch.save), which", writing)


@pytest.mark.parametrize(
    "change,message",
    [
        (lambda c: c.replace("def forward(", "def __setstate__(", 1), "has __setstate__, which loading"),
        (lambda c: c + "  def f(self, x: Tensor=torch.zeros([1])) -> Tensor:\n    return x\n", "computes a value outside"),
        (lambda c: c + '  x : str = torch.format("{}", 1)\n', "computes a value outside of a method"),
        (lambda c: c + "class E(Enum):\n  a = 1\n", "has a class that is neither a module nor a named tuple"),
        (lambda c: c + "class I(Interface):\n  pass\n", "has a class that is neither a module nor a named tuple"),
        (lambda c: c + "class C:\n  pass\n", "has a class that is neither a module nor a named tuple"),
        (lambda c: c + '  def f(self) -> int:\n    torch.save(1, "x")\n    return 1\n', "has operator torch.save, which"),
        (lambda c: c + "  def f(self) -> int:\n    return ops.rpc.rpc_sync(1)\n", "has operator ops.rpc, which is not"),
        (lambda c: c.replace("return ", "return " + "(" * 100000 + "1" + ")" * 100000 + "\n    return ", 1), "nested deeper than 400"),
        (lambda c: c.replace("return ", "return " + "- " * 100000, 1), "nested deeper than 400"),
        (lambda c: c.replace("return ", "return " + "a + " * 100000, 1), "nested deeper than 400"),
        (lambda c: c.replace("return ", "return " + "(" * 100000, 1), "leaves a bracket open"),
        (lambda c: c + "".join("  " * i + "if True:\n" for i in range(2, 100)), "is indented by 102"),
        (lambda c: c + '  def f(self) -> str:\n    return """a"""\n', "has a text in three quotes"),
        (lambda c: c + "torch.zeros([1])\n", "has a statement outside of classes and functions"),
        (lambda c: c.replace("return ", "return $", 1), "has the character '\\$'"),
        (lambda c: c + "  def f(self) -> int:\n    return 1)\n", "closes a bracket that is not open"),
        (lambda c: c.replace("(Module)", "(Module", 1), "leaves a bracket open|neither a module nor"),
    ],
)
def test_code(sound, tmp_path, change, message):
    refused(tmp_path, rf"entry code/\S+\.py: line \d+ .*({message})", with_code(sound, change))


def test_texts_that_double(sound, tmp_path):
    """Were constants folded, loading would make a text of 2^63 bytes; it may have 4 GiB, and says so, or folds none."""
    lines = '  def f(self) -> str:\n    a0 = "aaaaaaaa"\n'
    lines += "".join(f"    a{i + 1} = torch.add(a{i}, a{i})\n" for i in range(60)) + "    return a60\n"
    entries = with_code(sound, lambda c: c + lines)
    done = run_importer(write(tmp_path / "model.pt", entries), "--batch", 2, "--seq", 16, "-o", tmp_path / "m.mlir")
    assert done.returncode in (0, 1) and (done.returncode == 0 or "error: " in done.stderr)


#
# Pickles
#


def with_pickle(entries, change):
    return entries | {"data.pkl": change(entries["data.pkl"])}


def in_list(value: bytes) -> bytes:
    return b"\x80\x02" + value + b"."


@pytest.mark.parametrize(
    "pickled,message",
    [
        (pickle.dumps(os.system, 0), "names 'posix system', which no exported module needs"),
        (b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.", "names 'os system', which no exported module needs"),
        (b"\x80\x02c__torch__.torch.classes.x\nY\n)\x81}b.", "names '__torch__.torch.classes.x Y'"),
        (in_list(b"]" * 100000 + b"a" * 99999), "nested deeper than 500"),
        (in_list(b"(" * 100000 + b"t" * 100000), "nested deeper than 500"),
        (in_list(b"]q\x00h\x00a"), "a value contains itself"),
        (in_list(b"]q\x00]q\x01h\x00ah\x00h\x01aa"), "adds to what is no list or dict, or is complete|a value contains itself"),
        (in_list(b"h\x05"), "recalls 5, which is nothing"),
        (in_list(b"j\xff\xff\xff\xff"), "recalls 4294967295, which is nothing"),
        (in_list(b"r\xff\xff\xff\xff"), "remembers what is no value"),
        (in_list(b"t"), "takes values from a mark that is not there"),
        (in_list(b"R"), "takes a value where there is none"),
        (b"\x80\x02X\xff\xff\xff\x7fa.", "is cut short"),
        (b"\x80\x02c__torch__\nA\n)\x81.", "ends before its value is complete"),
        (b"\x80\x02ctorch.jit._pickle\nrestore_type_tag\n]X\x90\x01\x00\x00" + b"List[" * 80 + b"\x86R.", "has type 'List"),
    ],
)
def test_pickles(sound, tmp_path, pickled, message):
    refused(tmp_path, rf"entry data\.pkl: .*({message})", sound | {"data.pkl": pickled})


def test_pickle_that_multiplies(sound, tmp_path):
    """60 pairs of pairs would be 2^60 values to whoever walks them."""
    pickled = b"\x80\x02]q\x00"
    for i in range(60):
        pickled += b"h%ch%c\x86q%c" % (i, i, i + 1)
    refused(tmp_path, r"entry data\.pkl: has more than \d+ values, counting those that are shared", sound | {"data.pkl": pickled + b"."})


def a_storage(entries: dict[str, bytes]) -> str:
    return min(n for n in entries if re.fullmatch(r"data/\d+", n) and len(entries[n]) == 1024)


def test_short_storages(sound, tmp_path):
    key = a_storage(sound)
    message = r"entry data\.pkl: storage \d+ says 256 elements of 4 bytes, but its entry has 16 bytes"
    refused(tmp_path, message, sound | {key: sound[key][:16]})


def test_missing_storages(sound, tmp_path):
    key = a_storage(sound)
    refused(tmp_path, r"entry data\.pkl: storage \d+ has no entry", {n: c for n, c in sound.items() if n != key})


@pytest.mark.parametrize(
    "old,new",
    [
        (b"(K K\x08t", b"(M\x00\x10K\x08t"),  # sizes [4096, 8] of 256 elements
        (b"(K K\x08t", b"(J\xff\xff\xff\xffK\x08t"),
        (b"K\x00(K K\x08t", b"K\x01(K K\x08t"),  # offset 1
        (b"(K\x08K\x01t", b"(J\x00\x00\x00\x01K\x01t"),  # a long stride
        (b"(K\x08K\x01t", b"(J\xff\xff\xff\xffK\x01t"),
        (b"(K K\x08t", b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", 1 << 62) for _ in range(2)) + b"t"),
    ],
)
def test_tensors_beyond_their_storage(sound, tmp_path, old, new):
    def change(pickled: bytes) -> bytes:
        assert old in pickled
        return pickled.replace(old, new, 1)

    refused(tmp_path, r"entry data\.pkl: a tensor's offset, sizes and strides reach outside storage \d+ of 256", with_pickle(sound, change))


def test_debug_tables(sound, tmp_path):
    name = code_of(sound) + ".debug_pkl"
    refused(tmp_path, rf"entry {re.escape(name)}: ", sound | {name: b"\x80\x02]" * 3 + b"."})


#
# Zip
#


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "a//b", "a\\b", "C:x", "a\tb"])
def test_names_that_lead_out(sound, tmp_path, name):
    path = tmp_path / "model.pt"
    write(path, sound)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("model/" + name if not name.startswith("/") else name, b"")
    check_refused(tmp_path, "expects a name inside the archive's folder", path, "--batch", 2, "--seq", 16)


def test_names_twice(sound, tmp_path):
    with pytest.warns(UserWarning, match="Duplicate"):
        write(tmp_path / "model.pt", [*sound.items(), ("data.pkl", b"x")])
    check_refused(tmp_path, "entry data.pkl: stands twice", tmp_path / "model.pt", "--batch", 2, "--seq", 16)


def test_names_twice_in_another_case(sound, tmp_path):
    refused(tmp_path, "entry DATA.pkl: stands twice", sound | {"DATA.pkl": b"x"})


def test_packed_tensors(sound, tmp_path):
    refused(tmp_path, r"entry \S+: expects bytes as they are, or code packed by deflate", sound, packed=True)


def test_truncated(sound, tmp_path):
    path = write(tmp_path / "model.pt", sound)
    path.write_bytes(path.read_bytes()[:-10])
    check_refused(tmp_path, r"cannot be read as TorchScript \(it does not end with a zip directory\): it is truncated or of another format", path)


def test_many_entries(sound, tmp_path):
    entries = sound | {f"traced_inputs/{i}": b"" for i in range(100001)}
    refused(tmp_path, r"has 1000\d\d entries, but at most 100000 are read", entries)


def test_overlapping_entries(sound, tmp_path):
    """The directory points two entries at one place."""
    path = write(tmp_path / "model.pt", sound)
    content = bytearray(path.read_bytes())
    directory = struct.unpack("<I", content[-6:-2])[0]
    assert content[directory : directory + 4] == b"PK\x01\x02"
    lengths = struct.unpack("<HHH", content[directory + 28 : directory + 34])
    second = directory + 46 + sum(lengths)
    content[second + 42 : second + 46] = content[directory + 42 : directory + 46]
    path.write_bytes(bytes(content))
    check_refused(tmp_path, r"entry \S+: (its header is not what|its bytes are another entry's)", path)


def test_sizes_beyond_the_file(sound, tmp_path):
    path = write(tmp_path / "model.pt", sound)
    content = bytearray(path.read_bytes())
    directory = struct.unpack("<I", content[-6:-2])[0]
    content[directory + 20 : directory + 28] = struct.pack("<II", 1 << 30, 1 << 30)
    path.write_bytes(bytes(content))
    check_refused(tmp_path, r"entry \S+: its 1073741824 bytes lie outside the file", path)


class Large(nn.Module):
    """2^28 numbers of which there is one, as its weight or, on request, as a buffer."""

    def __init__(self, buffer: bool = False) -> None:
        super().__init__()
        with export.weightless():
            self.table = nn.Embedding(1 << 15, 1 << 13)
        if buffer:
            self.register_buffer("mask", torch.ones(1, 1).expand(1 << 14, 1 << 14))

    def forward(self, input_ids, labels):
        return self.table(input_ids).mean() + labels.float().mean()


def test_weights_of_one_element_stand_for_any_number(tmp_path):
    ids = torch.zeros(2, 4, dtype=torch.long)
    export.save(Large(), (ids, ids), tmp_path / "model.pt", weightless=True)
    done = run_importer(tmp_path / "model.pt", "-o", tmp_path / "model.mlir")
    assert done.returncode == 0, done.stderr
    assert "tensor<32768x8192xf32>" in (tmp_path / "model.mlir").read_text()


def test_buffers_of_one_element_are_written_out(tmp_path):
    ids = torch.zeros(2, 4, dtype=torch.long)
    export.save(Large(buffer=True), (ids, ids), tmp_path / "model.pt", weightless=True)
    message = "buffer mask shows one element as 268435456, but at most 134217728 are read; register a smaller one"
    check_refused(tmp_path, message, tmp_path / "model.pt")


#
# What LibTorch loads
#


def described(tmp_path, module, change, **options) -> Path:
    """An archive whose description was changed."""
    export.save(module, (IDS, IDS), tmp_path / "sound.pt", **options)
    with zipfile.ZipFile(tmp_path / "sound.pt") as archive:
        entries = {name.split("/", 1)[1]: archive.read(name) for name in archive.namelist()}
    name = "extra/galvatron.json"
    entries[name] = change(entries[name])
    return write(tmp_path / "model.pt", entries)


def test_descriptions(tmp_path):
    deep = b'{"a":' + b"[" * 200 + b"]" * 200 + b","
    path = described(tmp_path, Small(), lambda text: text.replace(b"{", deep, 1))
    check_refused(tmp_path, "galvatron.json in the archive is nested deeper than 100; export the model again", path)


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(32, 8), nn.Linear(8, 4, bias=False)

    def forward(self, input_ids, labels):
        return self.head(self.table(input_ids)).mean() + labels.float().mean()


def test_ties_of_unlike_parameters(tmp_path):
    def change(text: bytes) -> bytes:
        description = json.loads(text)
        description["ties"] = [["table.weight", "head.weight"]]
        return json.dumps(description).encode()

    message = "galvatron.json ties parameter (head|table).weight to (head|table).weight, which is of another shape or type"
    check_refused(tmp_path, message, described(tmp_path, Pair(), change))


def test_parameters_that_share_some_memory(tmp_path):
    module = Pair()
    memory = torch.ones(320)
    module.table.weight = nn.Parameter(memory[:256].view(32, 8))
    module.head.weight = nn.Parameter(memory[240:272].view(4, 8))
    torch.jit.trace(module, (IDS, IDS), check_trace=False).save(str(tmp_path / "model.pt"))
    message = r"parameters \S+ and \S+ share some of their memory, but not all of it, which is unsupported; clone one of them"
    check_refused(tmp_path, message, tmp_path / "model.pt", "--batch", 2, "--seq", 16)


def test_entries_that_are_no_torchscript(sound, tmp_path):
    refused(tmp_path, "entry model.json: is of a format before PyTorch 1.0's, which is unsupported", sound | {"model.json": b"{}"})
    texts = {f"extra/{i}": bytes(60 << 20) for i in range(5)}
    refused(tmp_path, "brings code and pickles to 3145[0-9]* bytes, but at most 268435456 are read, 67108864 each", sound | texts)
    wrong = with_code(sound, lambda code: code.replace("return ", "return unknown + ", 1))
    refused(tmp_path, r"cannot be read as TorchScript \(.*\): it is damaged or of another format; write it with", wrong)


def test_calls_within_calls(tmp_path):
    path = scripted(tmp_path, "x = self.f0(x)", methods=chain(300))
    check_refused(tmp_path, "calls are nested deeper than 200 in the top module", path, "--batch", 2, "--seq", 16)


def chain(count: int) -> list[str]:
    """Methods that call the next each, the last first."""
    methods = [f"def f{count}(self, x: Tensor) -> Tensor:\n    return x\n"]
    return methods + [f"def f{i}(self, x: Tensor) -> Tensor:\n    return self.f{i + 1}(x)\n" for i in reversed(range(count))]


def test_conditions_on_data(tmp_path):
    path = scripted(tmp_path, "if bool(x.sum() > 0.0):", "    x = x + 1")
    check_refused(tmp_path, "turns a tensor that depends on data into a number; the program must not depend on it", path, "--batch", 2, "--seq", 16)
