"""Writes indexed datasets: PREFIX.bin with the tokens of all sequences, PREFIX.idx that says where each is.

The index, little endian, as Megatron-LM has it:

    "MMIDIDX\\0\\0"  u64 version 1  u8 type  u64 sequences  u64 bounds
    i32 lengths[sequences]  i64 bytes in PREFIX.bin[sequences]  i64 bounds[bounds]: first sequence of each document, then their number

Here each document is one sequence.
"""

from __future__ import annotations

import array
import contextlib
from pathlib import Path

import numpy as np

from galvatron import outputs
from galvatron.errors import GalvatronError

CODES = {"u8": 1, "i8": 2, "i16": 3, "i32": 4, "i64": 5, "u16": 8}
TYPES = {name: np.dtype(f"<{name[0]}{int(name[1:]) // 8}") for name in CODES}


class IndexedWriter:
    """Both files appear under their names at `finish`; a writer that is closed before leaves nothing."""

    def __init__(self, prefix: Path, dtype: str):
        self.dtype, self.lengths, self.tokens = dtype, array.array("i"), 0
        self.paths = [
            outputs.destination(prefix.with_name(prefix.name + suffix), "give another prefix with -o")
            for suffix in (".bin", ".idx")
        ]
        self.partial = [path.with_name(path.name + ".partial") for path in self.paths]
        self.bin = open(self.partial[0], "wb")

    def add(self, sequence: np.ndarray):
        self.bin.write(sequence.astype(TYPES[self.dtype]).tobytes())
        self.lengths.append(len(sequence))
        self.tokens += len(sequence)

    def write_index(self):
        lengths = np.frombuffer(self.lengths, np.int32) if self.lengths else np.zeros(0, np.int32)
        ends = np.cumsum(lengths, dtype=np.int64)
        with open(self.partial[1], "wb") as file:
            file.write(b"MMIDIDX\x00\x00" + np.int64(1).tobytes() + np.uint8(CODES[self.dtype]).tobytes())
            file.write(np.array([len(lengths), len(lengths) + 1], np.int64).tobytes() + lengths.tobytes())
            file.write(((ends - lengths) * TYPES[self.dtype].itemsize).tobytes())
            file.write(np.arange(len(lengths) + 1, dtype=np.int64).tobytes())

    def close(self):
        """Never raises: a full disk, which says so again at each try, is not to hide what was said of it first."""
        with contextlib.suppress(OSError):
            self.bin.close()
        for path in self.partial:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(prefix: Path, dtypes: dict[str, str]):
    """Writers of datasets PREFIX + suffix, by suffix. They appear together, in place of what was there; after an
    exception none does. An index is removed before its tokens are replaced, so that no two files of different runs meet.
    """
    writers = {}
    try:
        prefix.parent.mkdir(parents=True, exist_ok=True)
        for suffix, dtype in dtypes.items():
            writers[suffix] = IndexedWriter(prefix.with_name(prefix.name + suffix), dtype)
        yield writers
        for writer in writers.values():
            writer.bin.close()
            writer.write_index()
        for writer in writers.values():
            writer.paths[1].unlink(missing_ok=True)
        for which in (0, 1):
            for writer in writers.values():
                writer.partial[which].rename(writer.paths[which])
    except OSError as error:
        raise GalvatronError(f"cannot write {error.filename or prefix}: {error.strerror}") from error
    finally:
        for writer in writers.values():
            writer.close()
