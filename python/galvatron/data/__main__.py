"""Tokenizes files into an indexed dataset, PREFIX.bin and PREFIX.idx, that `launch --data PREFIX` reads.

    python -m galvatron.data corpus.jsonl --tokenizer DIR --append-eod -o data/web
    python -m galvatron.data chat.jsonl --tokenizer DIR --messages-field messages -o data/chat

A .jsonl or .parquet file has a document a record, any other file is one. Prompts and messages also write PREFIX_labels,
with -100 on all that the model is not to say.
"""

from __future__ import annotations

import argparse
import collections
import multiprocessing
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor
from pathlib import Path

from galvatron.data.indexed import writing
from galvatron.data.reading import read_records
from galvatron.data.tokenizing import DocumentTokenizer, Settings, encode_in_worker, largest_token, start_worker
from galvatron.errors import GalvatronError

CHUNK_RECORDS, CHUNK_CHARACTERS = 1000, 1 << 20


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "galvatron.data", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="text, .jsonl or .parquet")
    parser.add_argument("--tokenizer", required=True, metavar="PATH", help="a folder with tokenizer.json, or that file")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="PREFIX", help="of the .bin and .idx to write")
    parser.add_argument("--field", metavar="NAME", help="of a record, its text (text)")
    parser.add_argument("--prompt-field", metavar="NAME", help="with --completion-field: tokenized apart and joined")
    parser.add_argument("--completion-field", metavar="NAME", help="what the model is to say")
    parser.add_argument("--messages-field", metavar="NAME", help="a conversation, through the tokenizer's chat template")
    parser.add_argument("--append-eod", action="store_true", help="end each document with the end-of-document token")
    parser.add_argument("--eod-token", default="", metavar="TOKEN", help="which one that is (the tokenizer's eos_token)")
    parser.add_argument("--dtype", choices=("u16", "i32"), help="of a token (u16 where the vocabulary fits, else i32)")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="processes (0: threads of this one)")
    return parser.parse_args(arguments)


def settings_of(options: argparse.Namespace) -> Settings:
    pair = (options.prompt_field, options.completion_field)
    if any(pair) != all(pair):
        raise GalvatronError("--prompt-field and --completion-field belong together; give both")
    if sum(map(bool, (options.field, pair[0], options.messages_field))) > 1:
        raise GalvatronError("--field, --prompt-field and --messages-field say where text is; give one of them")
    if options.workers < 0:
        raise GalvatronError(f"--workers expects a number from 0 on, but got {options.workers}")
    kind = "prompt" if all(pair) else "messages" if options.messages_field else "text"
    fields = list(pair) if all(pair) else [options.messages_field or options.field or "text"]
    return Settings(options.tokenizer, fields, kind, options.append_eod, options.eod_token)


class Progress:
    """A line on a terminal that is written over, a few times a second."""

    def __init__(self, files: list[Path]):
        self.total = sum(file.stat().st_size for file in files if file.is_file())
        self.is_shown, self.last, self.start = sys.stderr.isatty(), 0.0, time.monotonic()

    def show(self, done: int, tokens: int, is_last: bool = False):
        now = time.monotonic()
        if not self.is_shown or (now - self.last < 0.2 and not is_last):
            return
        self.last = now
        share, seconds = done / max(self.total, 1), max(now - self.start, 1e-9)
        bar = "#" * round(30 * share)
        text = f"\r[{bar:<30}] {100 * share:3.0f} %  {tokens:,} tokens, {tokens / seconds:,.0f} a second"
        print(text, end="\n" if is_last else "", file=sys.stderr, flush=True)


def chunks(files: list[Path], fields: list[str]) -> Iterator[tuple[list, int]]:
    """Records for one call of the tokenizer, and the bytes of all files read with them."""
    records, characters, before, done = [], 0, 0, 0
    for file in files:
        for place, values, read in read_records(file, fields):
            records.append((place, values))
            characters += sum(len(str(value)) for value in values.values())
            done = before + read
            if len(records) == CHUNK_RECORDS or characters >= CHUNK_CHARACTERS:
                yield records, done
                records, characters = [], 0
        before = done
    if records:
        yield records, done


def encode_all(files: list[Path], settings: Settings, tokenizer: DocumentTokenizer, workers: int) -> Iterator:
    """(documents of a chunk, bytes read), in order; at most two chunks a worker are under way."""
    if workers:
        context = multiprocessing.get_context("spawn")
        pool, encode, under_way = ProcessPoolExecutor(workers, context, start_worker, (settings,)), encode_in_worker, 2 * workers
    else:
        # The tokenizer's own threads go on while Python reads, unpacks and writes.
        pool, encode, under_way = ThreadPoolExecutor(2), tokenizer.encode, 3
    with pool:
        waiting = collections.deque()
        for records, done in chunks(files, settings.fields):
            waiting.append((pool.submit(encode, records), done))
            if len(waiting) == under_way:
                future, read = waiting.popleft()
                yield future.result(), read
        for future, read in waiting:
            yield future.result(), read


def choose_type(dtype: str | None, tokenizer: DocumentTokenizer) -> str:
    largest = largest_token(tokenizer.tokenizer)
    if dtype == "u16" and largest >= 1 << 16:
        raise GalvatronError(f"the tokenizer's largest token is {largest}, which u16 does not hold; pass --dtype i32")
    return dtype or ("u16" if largest < 1 << 16 else "i32")


def run(options: argparse.Namespace):
    settings = settings_of(options)
    for file in options.files:
        if not file.is_file():
            raise GalvatronError(f"there is no file {file}")
    tokenizer = DocumentTokenizer(settings)
    dtypes = {"": choose_type(options.dtype, tokenizer)}
    if settings.kind != "text":
        dtypes["_labels"] = "i32"
    progress, skipped = Progress(options.files), 0
    with writing(options.output, dtypes) as writers:
        for documents, done in encode_all(options.files, settings, tokenizer, options.workers):
            for tokens, labels in documents:
                if len(tokens) == 0:
                    skipped += 1
                    continue
                writers[""].add(tokens)
                if labels is not None:
                    writers["_labels"].add(labels)
            progress.show(done, writers[""].tokens)
        if not writers[""].lengths:
            raise GalvatronError(f"there is no document with tokens in {options.files[0]}; nothing was written")
    progress.show(progress.total, writers[""].tokens, is_last=True)
    empty = f", {skipped} without tokens left out" if skipped else ""
    print(f"{options.output}: {len(writers[''].lengths)} sequences, {writers[''].tokens} tokens of type {dtypes['']}{empty}")


def main(arguments: list[str] | None = None) -> int:
    try:
        run(parse(arguments))
    except GalvatronError as error:
        message = str(error)
    except BrokenProcessPool:
        message = "a worker was killed, perhaps for memory; pass fewer --workers"
    else:
        return 0
    print(f"galvatron.data: error: {message}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
