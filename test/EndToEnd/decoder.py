"""A decoder whose loader shifts the labels."""

from __future__ import annotations

from torch import nn
from torch.nn import functional

WORDS = 64


class Decoder(nn.Module):
    """As nanoGPT: a loader hands over targets that are shifted already, and -1 is no target."""

    def __init__(self, hidden: int = 16, is_causal: bool = True, shifts: bool = False, attends: bool = True):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, hidden)
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.head = nn.Linear(hidden, WORDS)
        self.is_causal, self.shifts, self.attends = is_causal, shifts, attends

    def forward(self, idx, targets=None):
        x = self.embedding(idx)
        if self.attends:
            q, k, v = (part.unsqueeze(1) for part in self.qkv(x).chunk(3, -1))
            x = x + functional.scaled_dot_product_attention(q, k, v, is_causal=self.is_causal).squeeze(1)
        logits = self.head(x)
        if self.shifts:
            logits, targets = logits[:, :-1], targets[:, 1:]
        return logits, functional.cross_entropy(logits.reshape(-1, WORDS), targets.reshape(-1), ignore_index=-1)
