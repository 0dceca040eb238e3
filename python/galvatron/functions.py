"""`torch.autograd.Function`s in a trace: each appears as the operators of its forward.

A trace has no place for a backward pass written in Python, and the compiler derives its own: so the two
must agree, which is tried on random numbers for each call.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence

import torch
from torch.utils.checkpoint import CheckpointFunction

from galvatron.errors import GalvatronError


@contextlib.contextmanager
def written_out(within: Callable[[], contextlib.AbstractContextManager]) -> Iterator[None]:
    """For its extent, traced calls of `apply` run the forward's operators, inside `within()`."""
    original = torch.autograd.Function.__dict__["apply"]

    def apply(function, *arguments, **named):
        call = original.__get__(None, function)
        state = torch._C._get_tracing_state()
        if state is None or named:
            return call(*arguments, **named)
        if function is CheckpointFunction:  # changes when values are computed, not which
            run, _, *inputs = arguments
            return run(*inputs)
        torch._C._set_tracing_state(None)
        try:
            with torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x):  # not the trace's
                agrees = _derives_its_forward(function, call, arguments)
        finally:
            torch._C._set_tracing_state(state)
        if not agrees:
            caller = inspect.currentframe().f_back
            raise GalvatronError(
                f"{function.__name__} at {caller.f_code.co_filename}:{caller.f_lineno} has a backward pass"
                " of its own that is not its forward's derivative, so it cannot be exported; write it"
                " with differentiable operators"
            )
        with within():
            return _forward_of(function)(*arguments)

    torch.autograd.Function.apply = classmethod(apply)
    try:
        yield
    finally:
        torch.autograd.Function.apply = original


class _Notes:
    """Takes what a forward leaves for its backward, and forgets it."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments, **named: None


def _forward_of(function: type[torch.autograd.Function]) -> Callable:
    """Its forward as a function of the arguments of `apply`."""
    if function.setup_context is not torch.autograd.Function.setup_context:
        return function.forward
    return functools.partial(function.forward, _Notes())


def _derives_its_forward(function: type[torch.autograd.Function], call: Callable, arguments: Sequence) -> bool:
    """Whether the written backward gives what PyTorch derives from the forward's operators."""
    generator = torch.Generator().manual_seed(0)

    def drawn(shape: Sequence[int]) -> torch.Tensor:
        return torch.randn([int(extent) for extent in shape], generator=generator)

    inputs = [drawn(a.shape) if isinstance(a, torch.Tensor) and a.is_floating_point() else a for a in arguments]
    results = []
    weights: list[torch.Tensor] = []
    for run in (call, _forward_of(function)):
        with torch.enable_grad():
            copies = [
                a.clone().requires_grad_() if isinstance(a, torch.Tensor) and a.is_floating_point() else a
                for a in inputs
            ]
            outputs = run(*copies)
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            floats = [o for o in outputs if isinstance(o, torch.Tensor) and o.is_floating_point()]
            weights = weights or [drawn(o.shape) for o in floats]
            total = sum(((o * w).sum() for o, w in zip(floats, weights)), torch.zeros(()))
            leaves = [c for c in copies if isinstance(c, torch.Tensor) and c.requires_grad]
            gradients = (
                torch.autograd.grad(total, leaves, allow_unused=True) if total.requires_grad else [None] * len(leaves)
            )
        zeros = [g if g is not None else torch.zeros_like(x) for g, x in zip(gradients, leaves)]
        results.append([*(o.detach() for o in floats), *zeros])
    # Hand-written derivatives have rounded constants.
    return len(results[0]) == len(results[1]) and all(
        torch.allclose(a, b, rtol=1e-3, atol=1e-5 * max(1.0, float(b.abs().max()) if b.numel() else 1.0))
        for a, b in zip(*results)
    )
