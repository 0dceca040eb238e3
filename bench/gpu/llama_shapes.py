"""Shapes of the models of torch_llama.py, their FLOPs, and its result line."""

import json
import os
import statistics

PEAK = 989e12  # dense bf16, H100/H200 SXM data sheet

# name: layers, hidden, ffn, heads, kv heads, vocab, default sequence length
SHAPES = {
    "llama2-7b": dict(L=32, h=4096, ffn=11008, heads=32, kv=32, V=32000, s=4096, theta=1e4),
    "llama3-8b": dict(L=32, h=4096, ffn=14336, heads=32, kv=8, V=128256, s=8192, theta=5e5),
    "tiny": dict(L=4, h=1024, ffn=2816, heads=8, kv=4, V=8192, s=1024, theta=1e4),
}


def n_params(c):
    """(all parameters, parameters without the input embedding but with the LM head)."""
    d = c.get("d", c["h"] // c["heads"])
    attn = c["h"] * d * (2 * c["heads"] + 2 * c["kv"])
    mlp = 3 * c["h"] * c["ffn"]
    body = c["L"] * (attn + mlp + 2 * c["h"]) + c["h"]
    return body + 2 * c["V"] * c["h"], body + c["V"] * c["h"]


def flops_per_token(c, s):
    """6*P + 12*L*h*s (attention counted in full); second value halves attention (causal)."""
    _, p = n_params(c)
    attn = 12 * c["L"] * c["heads"] * c.get("d", c["h"] // c["heads"]) * s
    return 6 * p + attn, 6 * p + attn // 2


def emit(**kw):
    """Append one JSON line to $RESULTS (or stdout only) from rank 0."""
    line = json.dumps(kw)
    print("RESULT " + line, flush=True)
    path = os.environ.get("RESULTS")
    if path:
        with open(path, "a") as f:
            f.write(line + "\n")


def summarize(name, c, s, mb, ga, world, mp, times_ms, mem_alloc, mem_res, **extra):
    """times_ms: per-step wall times; mb sequences per model replica and micro-batch;
    mp: ranks that share one replica's tokens (tp*pp)."""
    med = statistics.median(times_ms)
    tok = mb * ga * s * (world // mp)  # tokens of one step over all ranks
    tps = tok / (med / 1e3) / world
    full, half = flops_per_token(c, s)
    emit(bench=name, gpus=world, step_ms=round(med, 2), min_ms=round(min(times_ms), 2),
         max_ms=round(max(times_ms), 2), n=len(times_ms), tokens_per_step=tok,
         tok_s_gpu=round(tps, 1), tflops_full=round(tps * full / 1e12, 1),
         tflops_half=round(tps * half / 1e12, 1), mfu_full=round(tps * full / PEAK, 4),
         mfu_half=round(tps * half / PEAK, 4), mem_alloc_gib=round(mem_alloc / 2**30, 1),
         mem_reserved_gib=round(mem_res / 2**30, 1), seq=s, mb=mb, ga=ga, **extra)
