"""The peer of the race: a Llama training step as a user writes it in plain PyTorch.

    torchrun --nproc-per-node 1 bench/gpu/torch_llama.py --model llama2-7b --layers 8 --mb 4 --fused 1 --reshard 0

FSDP2 (fully_shard per block), optionally with tensor and sequence parallelism (DTensor), torch.compile per block, attention by
cuDNN through scaled_dot_product_attention. Random tokens, fused AdamW on fp32 masters, bf16 compute, clipping. One process a
GPU. Prints one line, `RESULT {…}`: milliseconds of a step, tokens/s of a GPU, FLOP/s by two formulas, memory.
"""

import argparse
import os
import time

import torch
import torch.distributed as dist
import torch.nn as nn
import torch.nn.functional as F
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor.parallel import (ColwiseParallel, PrepareModuleInput, RowwiseParallel, SequenceParallel,
                                               loss_parallel, parallelize_module)
from torch.nn.attention import SDPBackend, sdpa_kernel

from llama_shapes import SHAPES, summarize

ap = argparse.ArgumentParser()
ap.add_argument("--name", default="torch-fsdp2")
ap.add_argument("--model", default="llama2-7b")
ap.add_argument("--seq", type=int, default=0)
ap.add_argument("--layers", type=int, default=0, help="0: as the model has")
ap.add_argument("--mb", type=int, default=1)
ap.add_argument("--ga", type=int, default=1)
ap.add_argument("--tp", type=int, default=1)
ap.add_argument("--attn", default="cudnn", choices=["cudnn", "flash"])
ap.add_argument("--ac", default="none", help="recompute: none, full (every layer), or N (every Nth layer)")
ap.add_argument("--fp8", default="", choices=["", "tensorwise", "rowwise"], help="fp8 products of the layers' matrices (torchao)")
ap.add_argument("--fused", type=int, default=0, help="one matrix for q,k,v and one for gate,up (tp=1 only)")
ap.add_argument("--reshard", type=int, default=1, help="1: ZeRO-3 (free parameters after forward); 0: ZeRO-2")
ap.add_argument("--reduce", default="fp32", choices=["fp32", "bf16"])
ap.add_argument("--compile", type=int, default=1)
ap.add_argument("--warmup", type=int, default=3)
ap.add_argument("--steps", type=int, default=10)
ap.add_argument("--profile", default="", help="file for a kernel-time table of one step (rank 0)")
A = ap.parse_args()
C = dict(SHAPES[A.model])
C["L"] = A.layers or C["L"]
S = A.seq or C["s"]
D = C["h"] // C["heads"]
assert not (A.fused and A.tp > 1)

rank, world, local = (int(os.environ[k]) for k in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
torch.cuda.set_device(local)
dist.init_process_group("nccl", device_id=torch.device("cuda", local))
torch.manual_seed(1234)
BACK = {"cudnn": [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION], "flash": [SDPBackend.FLASH_ATTENTION]}[A.attn]


class Norm(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n))

    def forward(self, x):
        return F.rms_norm(x, (x.shape[-1],), self.weight, 1e-5)


def rope(x, cos, sin):
    a, b = x.float().chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).type_as(x)


class SDPA(nn.Module):
    def forward(self, q, k, v, gqa):
        with sdpa_kernel(BACK, set_priority=True):
            return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=gqa)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        h, n, m = C["h"], C["heads"] * D, C["kv"] * D
        if A.fused:
            self.wqkv = nn.Linear(h, n + 2 * m, bias=False)
        else:
            self.wq, self.wk, self.wv = nn.Linear(h, n, bias=False), nn.Linear(h, m, bias=False), nn.Linear(h, m, bias=False)
        self.wo = nn.Linear(n, h, bias=False)
        self.sdpa = SDPA()

    def forward(self, x, cos, sin):
        b, s, _ = x.shape
        if A.fused:
            q, k, v = self.wqkv(x).split([C["heads"] * D, C["kv"] * D, C["kv"] * D], -1)
        else:
            q, k, v = self.wq(x), self.wk(x), self.wv(x)
        q, k, v = (t.view(b, s, -1, D) for t in (q, k, v))
        q, k = rope(q, cos, sin).transpose(1, 2), rope(k, cos, sin).transpose(1, 2)
        o = self.sdpa(q, k, v.transpose(1, 2), C["heads"] != C["kv"])
        return self.wo(o.transpose(1, 2).reshape(b, s, -1))


class MLP(nn.Module):
    def __init__(self):
        super().__init__()
        if A.fused:
            self.w13 = nn.Linear(C["h"], 2 * C["ffn"], bias=False)
        else:
            self.w1, self.w3 = nn.Linear(C["h"], C["ffn"], bias=False), nn.Linear(C["h"], C["ffn"], bias=False)
        self.w2 = nn.Linear(C["ffn"], C["h"], bias=False)

    def forward(self, x):
        a, b = self.w13(x).chunk(2, -1) if A.fused else (self.w1(x), self.w3(x))
        return self.w2(F.silu(a) * b)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.n1, self.attn, self.n2, self.mlp = Norm(C["h"]), Attention(), Norm(C["h"]), MLP()

    def forward(self, x, cos, sin):
        x = x + self.attn(self.n1(x), cos, sin)
        return x + self.mlp(self.n2(x))


class Llama(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(C["V"], C["h"])
        self.layers = nn.ModuleList(Block() for _ in range(C["L"]))
        self.norm = Norm(C["h"])
        self.head = nn.Linear(C["h"], C["V"], bias=False)

    def forward(self, t, cos, sin):
        x = self.emb(t)
        for l in self.layers:
            x = l(x, cos, sin)
        return self.head(self.norm(x))


def loss_fn(logits, y):
    return F.cross_entropy(logits.flatten(0, 1).float(), y.flatten())


t0 = time.time()
with torch.device("meta"):
    model = Llama()
dp = world // A.tp
mesh = init_device_mesh("cuda", (dp, A.tp), mesh_dim_names=("dp", "tp"))
if A.tp > 1:
    tp = mesh["tp"]
    parallelize_module(model, tp, {
        "emb": RowwiseParallel(input_layouts=Replicate(), output_layouts=Shard(1)),
        "norm": SequenceParallel(),
        "head": ColwiseParallel(input_layouts=Shard(1), output_layouts=Shard(-1), use_local_output=False)})
    for l in model.layers:
        parallelize_module(l, tp, {
            "n1": SequenceParallel(), "n2": SequenceParallel(),
            "attn": PrepareModuleInput(input_layouts=(Shard(1), None, None), desired_input_layouts=(Replicate(), None, None)),
            "attn.wq": ColwiseParallel(), "attn.wk": ColwiseParallel(), "attn.wv": ColwiseParallel(),
            "attn.wo": RowwiseParallel(output_layouts=Shard(1)),
            "mlp": PrepareModuleInput(input_layouts=(Shard(1),), desired_input_layouts=(Replicate(),)),
            "mlp.w1": ColwiseParallel(), "mlp.w3": ColwiseParallel(), "mlp.w2": RowwiseParallel(output_layouts=Shard(1))})
if A.fp8:
    from torchao.float8 import Float8LinearConfig, convert_to_float8_training
    convert_to_float8_training(model.layers, config=Float8LinearConfig.from_recipe_name(A.fp8))
if A.ac != "none":
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
    for i, l in enumerate(model.layers):
        if A.ac == "full" or i % int(A.ac) == 0:
            model.layers[i] = checkpoint_wrapper(l, preserve_rng_state=False)
if A.compile:
    for i, l in enumerate(model.layers):  # compiled modules, so that FSDP's hooks stay outside the graph
        model.layers[i] = torch.compile(l, fullgraph=A.ac == "none")
    loss_fn = torch.compile(loss_fn)
pol = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32 if A.reduce == "fp32" else torch.bfloat16)
kw = dict(mesh=mesh["dp"], mp_policy=pol)  # also for one data-parallel rank: it keeps fp32 masters and bf16 compute
fully_shard(model.emb, **kw, reshard_after_forward=bool(A.reshard))
for l in model.layers:
    fully_shard(l, **kw, reshard_after_forward=bool(A.reshard))
fully_shard([model.norm, model.head], **kw, reshard_after_forward=False)
fully_shard(model, **kw)
model.to_empty(device="cuda")
with torch.no_grad():
    for n, p in model.named_parameters():
        p.fill_(1.0) if p.ndim == 1 else p.normal_(0, 0.02)
freq = 1.0 / C["theta"] ** (torch.arange(0, D, 2, device="cuda").float() / D)
ang = torch.outer(torch.arange(S, device="cuda").float(), freq)[None, :, None, :]
cos, sin = ang.cos(), ang.sin()
opt = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
gen = torch.Generator(device="cuda").manual_seed(7 + mesh["dp"].get_local_rank())


def step():
    for i in range(A.ga):
        if A.ga > 1:
            model.set_requires_gradient_sync(i == A.ga - 1)
        t = torch.randint(0, C["V"], (A.mb, S + 1), device="cuda", generator=gen)
        if A.tp > 1:
            with loss_parallel():
                out = model(t[:, :-1], cos, sin)
                loss = loss_fn(out, t[:, 1:]) / A.ga
                del out
                loss.backward()
        else:
            out = model(t[:, :-1], cos, sin)
            loss = loss_fn(out, t[:, 1:]) / A.ga
            del out
            loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
    opt.step()
    opt.zero_grad(set_to_none=True)
    return loss.detach(), norm


losses = []
for _ in range(A.warmup):
    losses.append(step()[0])
torch.cuda.synchronize()
setup_s = time.time() - t0
torch.cuda.reset_peak_memory_stats()
dist.barrier()
ev = [torch.cuda.Event(True) for _ in range(A.steps + 1)]
ev[0].record()
for i in range(A.steps):
    losses.append(step()[0])
    ev[i + 1].record()
torch.cuda.synchronize()
times = [ev[i].elapsed_time(ev[i + 1]) for i in range(A.steps)]
if A.profile:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA, torch.profiler.ProfilerActivity.CPU]) as prof:
        step()
        torch.cuda.synchronize()
    if rank == 0:
        with open(A.profile, "w") as f:
            f.write(prof.key_averages().table(sort_by="self_cuda_time_total", row_limit=40, max_name_column_width=90))
full = [x.full_tensor().item() if hasattr(x, "full_tensor") else x.item() for x in (losses[0], losses[-1])]
if rank == 0:
    summarize(A.name, C, S, A.mb, A.ga, world, A.tp, times, torch.cuda.max_memory_allocated(),
              torch.cuda.max_memory_reserved(), model=A.model, layers=C["L"], tp=A.tp, attn=A.attn, ac=A.ac, fused=A.fused,
              reshard=A.reshard, fp8=A.fp8, reduce=A.reduce, compile=A.compile, loss_first=round(full[0], 3),
              loss_last=round(full[1], 3), setup_s=round(setup_s, 1))
dist.barrier()
dist.destroy_process_group()
