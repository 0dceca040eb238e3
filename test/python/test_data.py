"""python -m galvatron.data: documents of each kind become indexed datasets, whole or not at all."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from galvatron.data.__main__ import main
from galvatron.data.indexed import TYPES

TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'user' %}<|user|>{{ m.content }}{% else %}<|bot|>{{ m.content }}<|end|>"
    "{% endif %}{% if m.role == 'tool' %}{{ raise_exception('no tools') }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|bot|>{% endif %}"
)
CHAT = [("user", "how are you?"), ("assistant", "hello"), ("user", "fox?"), ("assistant", "brown fox")]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """A folder with a small tokenizer, an eos_token and a chat template."""
    folder = tmp_path_factory.mktemp("tokenizer")
    model = Tokenizer(models.BPE())
    model.pre_tokenizer, model.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special, alphabet = ["<|end|>", "<|user|>", "<|bot|>"], pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    model.train_from_iterator(["hello world, how are you?", "the quick brown fox"] * 10, trainer)
    model.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>", "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def read_sequences(prefix, name: str, code: int) -> list[list[int]]:
    """By the format's description, not by the writer's code."""
    index = prefix.with_name(prefix.name + ".idx").read_bytes()
    assert index[:9] == b"MMIDIDX\x00\x00" and index[9:18] == np.int64(1).tobytes() + bytes([code])
    count, bounds = np.frombuffer(index, "<i8", 2, 18)
    lengths, pointers = np.frombuffer(index, "<i4", count, 34), np.frombuffer(index, "<i8", count, 34 + 4 * count)
    assert np.frombuffer(index, "<i8", -1, 34 + 12 * count).tolist() == list(range(count + 1)) and bounds == count + 1
    tokens = prefix.with_name(prefix.name + ".bin").read_bytes()
    return [
        np.frombuffer(tokens, TYPES[name], length, pointer).tolist()
        for length, pointer in zip(lengths, pointers, strict=True)
    ]


def words(tokenizer, ids: list[int]) -> list[str | None]:
    model = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    return [model.id_to_token(token) if token >= 0 else None for token in ids]


def write_lines(path, records: list):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_text_of_every_kind(tokenizer, tmp_path):
    texts = [f"hello world {number}" for number in range(2500)]
    lines = write_lines(tmp_path / "a.jsonl", [{"body": text, "other": 1} for text in [*texts, ""]])
    plain = tmp_path / "b.txt"
    plain.write_text("the quick\nbrown fox")
    model = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    expected = [model.encode(text).ids for text in [*texts, "the quick\nbrown fox"]]
    prefix = tmp_path / "new" / "set.v1"
    options = ["--field", "body", "--tokenizer", str(tokenizer), "-o", str(prefix)]
    assert main([str(lines), str(plain), *options]) == 0
    assert read_sequences(prefix, "u16", 8) == expected
    assert main([str(lines), str(plain), *options, "--append-eod", "--dtype", "i32"]) == 0
    assert read_sequences(prefix, "i32", 4) == [[*ids, 0] for ids in [*expected[:-1], [], expected[-1]]]
    assert sorted(path.name for path in prefix.parent.iterdir()) == ["set.v1.bin", "set.v1.idx"]


def test_workers_write_the_same(tokenizer, tmp_path):
    lines = write_lines(tmp_path / "a.jsonl", [{"text": f"hello {number}"} for number in range(3000)])
    for name, workers in (("one", "0"), ("two", "2")):
        assert main([str(lines), "--tokenizer", str(tokenizer), "-o", str(tmp_path / name), "--workers", workers]) == 0
    for suffix in (".bin", ".idx"):
        assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"two{suffix}").read_bytes()


def test_prompts_have_no_labels(tokenizer, tmp_path):
    lines = write_lines(tmp_path / "a.jsonl", [{"q": "how are", "a": "you?"}])
    fields = ["--prompt-field", "q", "--completion-field", "a", "--append-eod"]
    assert main([str(lines), "--tokenizer", str(tokenizer), *fields, "-o", str(tmp_path / "set")]) == 0
    (tokens,), (labels,) = (read_sequences(tmp_path / n, t, c) for n, t, c in (("set", "u16", 8), ("set_labels", "i32", 4)))
    assert words(tokenizer, tokens) == ["how", "Ġare", "you", "?", "<|end|>"]
    assert labels == [-100, -100, *tokens[2:]]


def test_the_model_says_what_the_assistant_does(tokenizer, tmp_path):
    lines = write_lines(tmp_path / "a.jsonl", [{"chat": [{"role": role, "content": text} for role, text in CHAT]}])
    assert main([str(lines), "--tokenizer", str(tokenizer), "--messages-field", "chat", "-o", str(tmp_path / "set")]) == 0
    (tokens,), (labels,) = (read_sequences(tmp_path / n, t, c) for n, t, c in (("set", "u16", 8), ("set_labels", "i32", 4)))
    said = "".join(word for word in words(tokenizer, labels) if word)
    assert said == "hello<|end|>brownĠfox<|end|>"
    assert all(label in (-100, token) for token, label in zip(tokens, labels, strict=True))
    assert words(tokenizer, tokens)[:1] == ["<|user|>"]


def test_parquet(tokenizer, tmp_path, capsys):
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"text": ["hello", "fox"]}), tmp_path / "a.parquet")
    assert main([str(tmp_path / "a.parquet"), "--tokenizer", str(tokenizer), "-o", str(tmp_path / "set")]) == 0
    assert len(read_sequences(tmp_path / "set", "u16", 8)) == 2
    pyarrow.parquet.write_table(pyarrow.table({"text": [b"hello"]}), tmp_path / "a.parquet")
    assert main([str(tmp_path / "a.parquet"), "--tokenizer", str(tokenizer), "-o", str(tmp_path / "set")]) == 1
    assert "a.parquet: row 1: expects text in text, but got" in capsys.readouterr().err


HALF = 'a.jsonl:1 has "\\ud83d", half of a surrogate pair, which is no text; mend it'
BROKEN = {
    "not json": ("{", [], "a.jsonl:1 is no JSON ("),
    "no object": ("[1]", [], "a.jsonl:1 is no JSON object; expects an object a line"),
    "no field": ('{"body": ""}', [], "a.jsonl:1 has no field text, but body; name it with --field or its like"),
    "no text": ('{"text": 3}', [], "a.jsonl:1: expects text in text, but got 3"),
    "half a character": ('{"text": "x\\ud83d"}', [], HALF),
    "half in a message": ('{"m": [{"role": "user", "content": "\\ud83d"}]}', ["--messages-field", "m"], HALF),
    "no messages": ('{"m": "x"}', ["--messages-field", "m"], "a.jsonl:1: expects a list of messages in m, but got"),
    "no message": ('{"m": [{}, 3]}', ["--messages-field", "m"], "1: expects message 2 of m to be an object, but got 3"),
    "template": ('{"m": [{"role": "tool"}]}', ["--messages-field", "m"], "1: the chat template fails (no tools)"),
    "empty": ('{"text": ""}', [], "there is no document with tokens in"),
    "half a pair": ("", ["--prompt-field", "q"], "--prompt-field and --completion-field belong together; give both"),
    "two kinds": ("", ["--field", "q", "--messages-field", "m"], "say where text is; give one of them"),
    "workers": ("", ["--workers", "-1"], "--workers expects a number from 0 on, but got -1"),
    "eod": ("", ["--append-eod", "--eod-token", "<x>"], "has no token <x>; name one of its vocabulary with --eod-token"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_bad_input_leaves_nothing(name, tokenizer, tmp_path, capsys):
    text, options, message = BROKEN[name]
    lines = tmp_path / "a.jsonl"
    good = "" if name in ("empty", "half a pair") else "\n"
    lines.write_text(text + good)
    assert main([str(lines), "--tokenizer", str(tokenizer), "-o", str(tmp_path / "out" / "set"), *options]) == 1
    error = capsys.readouterr().err
    assert error.startswith("galvatron.data: error: ") and error.count("\n") == 1 and message in error
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_an_error_leaves_what_was_there(tokenizer, tmp_path):
    write_lines(tmp_path / "a.jsonl", [{"text": "hello"}])
    options = ["--tokenizer", str(tokenizer), "-o", str(tmp_path / "set")]
    assert main([str(tmp_path / "a.jsonl"), *options]) == 0
    before = (tmp_path / "set.bin").read_bytes(), (tmp_path / "set.idx").read_bytes()
    (tmp_path / "b.jsonl").write_text('{"text": "fox"}\n{')
    assert main([str(tmp_path / "b.jsonl"), *options]) == 1
    assert before == ((tmp_path / "set.bin").read_bytes(), (tmp_path / "set.idx").read_bytes())


@pytest.mark.parametrize("documents", [1, 1000])
def test_a_full_disk_is_an_error(documents, tokenizer, tmp_path, capsys):
    """Of few tokens it is found at the end, of many while they are written, and then again at the end."""
    write_lines(tmp_path / "a.jsonl", [{"text": "hello " * 20}] * documents)
    (tmp_path / "set.bin.partial").symlink_to("/dev/full")
    assert main([str(tmp_path / "a.jsonl"), "--tokenizer", str(tokenizer), "-o", str(tmp_path / "set")]) == 1
    error = f"galvatron.data: error: cannot write {tmp_path / 'set'}: No space left on device\n"
    assert capsys.readouterr().err == error
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_other_exceptions_are_not_hidden(monkeypatch, capsys):
    """Not even where no pool of processes was made, so in a process of its own."""
    program = "import galvatron.data.__main__ as d; d.run = lambda _: 1 / 0; d.main(['a', *'--tokenizer b -o c'.split()])"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.stderr.splitlines()[-1].startswith("ZeroDivisionError")

    def lose_a_worker(_):
        raise BrokenProcessPool

    monkeypatch.setattr("galvatron.data.__main__.run", lose_a_worker)
    assert main(["a", "--tokenizer", "b", "-o", "c"]) == 1
    assert "a worker was killed, perhaps for memory; pass fewer --workers" in capsys.readouterr().err


CONFIGS = {
    "{": "tokenizer_config.json (Expecting property name enclosed in double quotes: line 1 column 2 (char 1)); mend it",
    "[]": "tokenizer_config.json is no JSON object with a text as its eos_token; mend it, or pass --eod-token",
    '{"eos_token": {"content": 3}}': "is no JSON object with a text as its eos_token",
    '{"eos_token": null}': "names no end-of-document token: there is no eos_token in",
}


@pytest.mark.parametrize("config", CONFIGS)
def test_a_broken_configuration_is_named(config, tokenizer, tmp_path, capsys):
    (tmp_path / "a.txt").write_text("hello")
    (tmp_path / "tokenizer.json").write_text((tokenizer / "tokenizer.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(config)
    options = ["--tokenizer", str(tmp_path), "--append-eod", "-o", str(tmp_path / "set")]
    assert main([str(tmp_path / "a.txt"), *options]) == 1
    assert CONFIGS[config] in capsys.readouterr().err
    assert main([str(tmp_path / "a.txt"), *options, "--eod-token", "<|end|>"]) == 0


def test_what_is_missing_is_named(tokenizer, tmp_path, capsys):
    def error_of(*arguments) -> str:
        assert main([str(argument) for argument in (*arguments, "-o", tmp_path / "set")]) == 1
        return capsys.readouterr().err

    (tmp_path / "a.txt").write_text("hello")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe")
    (tmp_path / "tokenizer.json").write_text((tokenizer / "tokenizer.json").read_text())
    text, alone = tmp_path / "a.txt", tmp_path / "tokenizer.json"
    assert "there is no file" in error_of(tmp_path / "none", "--tokenizer", tokenizer)
    assert "there is no tokenizer" in error_of(text, "--tokenizer", tmp_path / "none")
    assert "is no tokenizer that can be read (" in error_of(text, "--tokenizer", text)
    assert "names no end-of-document token" in error_of(text, "--tokenizer", alone, "--append-eod")
    assert "is not text in UTF-8" in error_of(tmp_path / "b.txt", "--tokenizer", tokenizer)
    assert "is plain text, which has no fields" in error_of(text, "--tokenizer", tokenizer, "--messages-field", "messages")
    assert re.search("has no chat template|cannot load the chat template", error_of(text, "--tokenizer", alone, "--messages-field", "m"))
    (tmp_path / "file").write_text("")
    assert main([str(text), "--tokenizer", str(tokenizer), "-o", str(tmp_path / "file" / "set")]) == 1
    assert "cannot write" in capsys.readouterr().err
