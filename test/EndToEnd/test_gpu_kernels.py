"""Generated kernels of a GPU on this processor: the same scalar code, with threads, shuffles and barriers of its own."""

import re
import shutil
from pathlib import Path

import pytest
from harness import ROOT, succeed

INPUTS = ROOT / "test" / "Inputs" / "gpu"
LLVM = Path("/usr/lib/llvm-22/bin")


def tool(name: str) -> str:
    found = shutil.which(name, path=str(LLVM)) or shutil.which(f"{name}-22") or shutil.which(name)
    if not found:
        pytest.skip(f"needs {name} of LLVM 22")
    return found


def kernels_of(program: str) -> str:
    """The module of kernels inside the stage's."""
    lines = program.splitlines()
    first = next(i for i, line in enumerate(lines) if "module @kernels" in line)
    end = re.match(r" *", lines[first]).group() + "}"
    last = next(i for i in range(first, len(lines)) if lines[i] == end)
    return "\n".join(lines[first : last + 1])


def test_rows(tmp_path):
    opt, translate, clang = tool("mlir-opt"), tool("mlir-translate"), tool("clang++")
    program = succeed("galvatron-opt", INPUTS / "rows.mlir", "-galvatron-convert-exec-to-llvm").stdout
    kernels = tmp_path / "kernels.mlir"
    kernels.write_text(kernels_of(program).replace("ptx_kernelcc ", ""))
    lowered, code, binary = (tmp_path / name for name in ("lowered.mlir", "kernels.ll", "rows"))
    passes = ["--convert-math-to-llvm", "--convert-arith-to-llvm", "--reconcile-unrealized-casts"]
    succeed(opt, kernels, *passes, "-o", lowered)
    text = succeed(translate, "--mlir-to-llvmir", lowered).stdout
    # Instructions become functions; limits of a GPU's launch mean nothing here.
    text = re.sub(r"@llvm\.nvvm\.([a-z0-9_.]+)", r'@"gpu.\1"', text)
    text = re.sub(r'"nvvm\.[a-z]+"="\d+"', "nounwind", text)
    code.write_text(text)
    succeed(clang, "-std=c++20", "-O1", "-pthread", INPUTS / "rows.cpp", "-x", "ir", code, "-o", binary)
    assert succeed(binary).stdout == "0 wrong\n"
