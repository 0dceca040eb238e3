"""Reads documents from text files, JSONL and parquet, with the place of each for messages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from galvatron.errors import GalvatronError

JSON_LINES = (".jsonl", ".ndjson", ".json")


def read_records(path: Path, fields: list[str]) -> Iterator[tuple[str, dict, int]]:
    """Each record as (place, values by field, bytes of the file read so far). A text file is one, of the first field."""
    try:
        if path.suffix == ".parquet":
            yield from read_parquet(path, fields)
        elif path.suffix in JSON_LINES:
            yield from read_json_lines(path, fields)
        else:
            yield from read_text(path, fields)
    except OSError as error:
        raise GalvatronError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise GalvatronError(f"{path} is not text in UTF-8 (byte {error.start} of what was read); convert it") from error


def read_text(path: Path, fields: list[str]) -> Iterator[tuple[str, dict, int]]:
    if len(fields) > 1 or fields[0] == "messages":
        raise GalvatronError(f"{path} is plain text, which has no fields; give JSONL (.jsonl) or parquet (.parquet)")
    yield str(path), {fields[0]: path.read_bytes().decode()}, path.stat().st_size


def read_json_lines(path: Path, fields: list[str]) -> Iterator[tuple[str, dict, int]]:
    done = 0
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            done += len(line)
            if not line.strip():
                continue
            place = f"{path}:{number}"
            try:
                record = json.loads(line)
            except (json.JSONDecodeError, UnicodeDecodeError) as error:
                raise GalvatronError(f"{place} is no JSON ({error}); expects an object a line") from error
            if not isinstance(record, dict):
                raise GalvatronError(f"{place} is no JSON object; expects an object a line")
            yield place, pick(place, record, fields), done


def read_parquet(path: Path, fields: list[str]) -> Iterator[tuple[str, dict, int]]:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise GalvatronError(f"reading {path} needs pyarrow; pip install pyarrow, or convert it to JSONL") from error
    try:
        file = pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowInvalid as error:
        raise GalvatronError(f"{path} is no parquet file ({error})") from error
    pick(str(path), dict.fromkeys(file.schema_arrow.names), fields)
    size, rows = path.stat().st_size, max(file.metadata.num_rows, 1)
    number = 0
    for batch in file.iter_batches(batch_size=1024, columns=fields):
        for record in batch.to_pylist():
            number += 1
            yield f"{path}: row {number}", record, size * number // rows


def pick(place: str, record: dict, fields: list[str]) -> dict:
    for field in fields:
        if field not in record:
            names = ", ".join(sorted(record)) or "none"
            raise GalvatronError(f"{place} has no field {field}, but {names}; name it with --field or its like")
    return {field: record[field] for field in fields}
