"""Trains the models of the checks in plain PyTorch: the other side of the bf16 run on real text.

    python bench/gpu/torch_decoder.py --model llama --size full --weights model.safetensors --data text.u8 \\
        --steps 200 --precision bf16 --log log.csv

GPT-2 and Llama as transformers defines them, under its parameter names, with scaled_dot_product_attention. bf16 is what a user of
PyTorch gets by default: parameters, their gradients and the optimizer in fp32, torch.autocast around the forward pass, so that
products and attention are in bf16 and norms, softmax and loss in fp32; fp16 likewise, with GradScaler. fp32 is without TF32. Data, learning rates and AdamW are those
of the stage binaries, and so are the options and the columns of the log. Needs PyTorch and numpy only.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy
import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent))

import gradients  # noqa: E402
import programs  # noqa: E402


def attend(q, k, v, grouped: bool):
    """[batch, seq, heads, dim] each."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped).transpose(1, 2).flatten(2)


class Transposed(nn.Module):
    """GPT-2's Conv1D: a linear layer whose weight is [in, out]."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.empty(inputs, outputs)), nn.Parameter(torch.empty(outputs))

    def forward(self, x):
        return F.linear(x, self.weight.t(), self.bias)


def children(**modules: nn.Module) -> nn.Module:
    result = nn.Module()
    for name, module in modules.items():
        result.add_module(name, module)
    return result


class Gpt2Block(nn.Module):
    def __init__(self, c: dict):
        super().__init__()
        h, self.heads = c["n_embd"], c["n_head"]
        self.ln_1, self.ln_2 = nn.LayerNorm(h), nn.LayerNorm(h)
        self.attn = children(c_attn=Transposed(h, 3 * h), c_proj=Transposed(h, h))
        self.mlp = children(c_fc=Transposed(h, 4 * h), c_proj=Transposed(4 * h, h))

    def forward(self, x):
        q, k, v = (t.unflatten(-1, (self.heads, -1)) for t in self.attn.c_attn(self.ln_1(x)).chunk(3, -1))
        x = x + self.attn.c_proj(attend(q, k, v, False))
        return x + self.mlp.c_proj(F.gelu(self.mlp.c_fc(self.ln_2(x)), approximate="tanh"))


class Gpt2(nn.Module):
    def __init__(self, c: dict):
        super().__init__()
        self.transformer = children(
            wte=nn.Embedding(c["vocab_size"], c["n_embd"]),
            wpe=nn.Embedding(c["n_positions"], c["n_embd"]),
            h=nn.ModuleList(Gpt2Block(c) for _ in range(c["n_layer"])),
            ln_f=nn.LayerNorm(c["n_embd"]),
        )

    def forward(self, tokens):
        t = self.transformer
        x = t.wte(tokens) + t.wpe(torch.arange(tokens.shape[1], device=tokens.device))
        for block in t.h:
            x = block(x)
        return F.linear(t.ln_f(x), t.wte.weight)


class Norm(nn.Module):
    def __init__(self, size: int, epsilon: float):
        super().__init__()
        self.weight, self.epsilon = nn.Parameter(torch.empty(size)), epsilon

    def forward(self, x):
        return F.rms_norm(x.float(), self.weight.shape, self.weight, self.epsilon)


def rotate(x, cos, sin):
    first, second = x.float().chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1).type_as(x)


class LlamaBlock(nn.Module):
    def __init__(self, c: dict):
        super().__init__()
        h, heads, kv, ffn = (c[f"{k}"] for k in ("hidden_size", "num_attention_heads", "num_key_value_heads", "intermediate_size"))
        self.dim, self.grouped = c.get("head_dim", h // heads), heads != kv
        q, k = heads * self.dim, kv * self.dim

        def linear(inputs: int, outputs: int):
            return nn.Linear(inputs, outputs, bias=False)

        self.input_layernorm = Norm(h, c["rms_norm_eps"])
        self.post_attention_layernorm = Norm(h, c["rms_norm_eps"])
        self.self_attn = children(q_proj=linear(h, q), k_proj=linear(h, k), v_proj=linear(h, k), o_proj=linear(q, h))
        self.mlp = children(gate_proj=linear(h, ffn), up_proj=linear(h, ffn), down_proj=linear(ffn, h))

    def forward(self, x, cos, sin):
        y, a, m = self.input_layernorm(x), self.self_attn, self.mlp
        q, k, v = (p(y).unflatten(-1, (-1, self.dim)) for p in (a.q_proj, a.k_proj, a.v_proj))
        x = x + a.o_proj(attend(rotate(q, cos, sin), rotate(k, cos, sin), v, self.grouped))
        y = self.post_attention_layernorm(x)
        return x + m.down_proj(F.silu(m.gate_proj(y)) * m.up_proj(y))


class Llama(nn.Module):
    def __init__(self, c: dict):
        super().__init__()
        self.model = children(
            embed_tokens=nn.Embedding(c["vocab_size"], c["hidden_size"]),
            layers=nn.ModuleList(LlamaBlock(c) for _ in range(c["num_hidden_layers"])),
            norm=Norm(c["hidden_size"], c["rms_norm_eps"]),
        )
        self.lm_head = nn.Linear(c["hidden_size"], c["vocab_size"], bias=False)
        self.dim, self.theta = self.model.layers[0].dim, c["rope_theta"]

    def forward(self, tokens):
        device = tokens.device
        frequency = self.theta ** (-torch.arange(0, self.dim, 2, device=device).float() / self.dim)
        angle = torch.outer(torch.arange(tokens.shape[1], device=device).float(), frequency)[:, None]
        x, cos, sin = self.model.embed_tokens(tokens), angle.cos(), angle.sin()
        for block in self.model.layers:
            x = block(x, cos, sin)
        return self.lm_head(self.model.norm(x))


def build(config: dict, weights: Path, device: str) -> nn.Module:
    """With the weights of a file that a stage binary saved."""
    module = (Gpt2 if config["model_type"] == "gpt2" else Llama)(config)
    stored = gradients.read_tensors(weights)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(torch.from_numpy(numpy.array(stored[name])))
    return module.to(device)


def train(module: nn.Module, model: programs.Model, arguments: argparse.Namespace) -> None:
    kind = {"u8": numpy.uint8, "u16": numpy.dtype("<u2")}[model.data_type]
    tokens = numpy.fromfile(arguments.data, kind)
    count = len(tokens) // model.seq
    windows = torch.from_numpy(tokens[: count * model.seq].reshape(count, model.seq).astype(numpy.int64)).to(arguments.device)
    matrices = [p for p in module.parameters() if p.dim() >= 2]
    vectors = [p for p in module.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": arguments.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    betas = tuple(float(beta) for beta in arguments.betas.split(","))
    optimizer = torch.optim.AdamW(groups, lr=arguments.lr, betas=betas, eps=arguments.eps)
    half = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": None}[arguments.precision]
    scaler = torch.amp.GradScaler(arguments.device, enabled=half == torch.float16)
    rows = ["step,loss,lr,grad_norm,tokens_per_second,peak_bytes"]
    for step in range(1, arguments.steps + 1):
        start = time.perf_counter()
        batch = windows[((step - 1) * model.batch + torch.arange(model.batch)) % count]
        for group in optimizer.param_groups:
            group["lr"] = arguments.lr * min(1.0, step / max(1, arguments.warmup))
        with torch.autocast(arguments.device, half, enabled=half is not None):
            logits = module(batch)
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), batch[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(module.parameters(), arguments.clip_grad)
        scaler.step(optimizer)
        scaler.update()
        value = loss.item()
        rate = batch.numel() / (time.perf_counter() - start)
        rows.append(f"{step},{value:.9g},{optimizer.param_groups[0]['lr']:.9g},{norm.item():.9g},{rate:.9g},0")
    arguments.log.write_text("\n".join(rows) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--model", required=True, help="of programs.py")
    add("--size", default="full", choices=("full", "tiny"))
    add("--weights", type=Path, required=True, help="safetensors to start from")
    add("--data", type=Path, required=True)
    add("--steps", type=int, required=True)
    add("--precision", default="bf16", choices=("bf16", "fp16", "fp32"))
    add("--device", default="cuda")
    add("--log", type=Path, required=True)
    add("--lr", type=float, default=1e-3)
    add("--warmup", type=int, default=0)
    add("--betas", default="0.9,0.999")
    add("--eps", type=float, default=1e-8)
    add("--weight-decay", type=float, default=0.0)
    add("--clip-grad", type=float, default=1.0)
    arguments = parser.parse_args()
    model = next(model for model in programs.models(arguments.size) if model.name == arguments.model)
    train(build(model.config, arguments.weights, arguments.device), model, arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
