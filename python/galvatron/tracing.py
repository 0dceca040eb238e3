"""Traces a module whose result is the mean loss, with or without memory for its weights.

The trace is of the module itself, not of a wrapper, so that attribute paths in the archive are the
module's own parameter names. For the time of the trace its class is a subclass whose `forward` takes
(input_ids, labels) and returns the loss alone.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from galvatron.errors import GalvatronError


def trace(
    module: nn.Module, input_ids: torch.Tensor, labels: torch.Tensor, weightless: bool = False
) -> torch.jit.ScriptModule:
    """Traces one training step's forward. Both inputs are int64 [batch, seq]; the result is the
    mean loss, float []. The module is left in training mode or not as it was.

    weightless  parameters are those of `expanded_parameters`: nothing is computed with them, and
                nothing is kept for a backward pass (at 80 layers, that is gigabytes).
    """
    was_training = module.training
    module.train()
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(_loss_forward(module))
            stack.enter_context(_functions_written_out())
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            if weightless:
                stack.enter_context(torch.no_grad())
                stack.enter_context(_WithoutProducts())
            return torch.jit.trace(module, (input_ids, labels), check_trace=False)
    finally:
        module.train(was_training)


def loss_function(module: nn.Module) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """`module`'s forward as a function of (input_ids, labels) that returns the mean loss [].

    Named arguments where it has those names, else the two positional ones. A model that could
    return a cache is told not to. Accepts a tensor, an object or dictionary with `loss`, or a tuple
    that begins with it.
    """
    forward = module.forward
    parameters = inspect.signature(forward).parameters
    named = {"input_ids", "labels"} <= parameters.keys()
    extra = {"use_cache": False} if named and "use_cache" in parameters else {}
    kind = type(module).__name__
    required = [p for p in parameters.values() if p.default is p.empty and p.kind <= p.POSITIONAL_OR_KEYWORD]
    if not named and len(required) != 2:
        raise GalvatronError(
            f"expects {kind}.forward to take input_ids and labels, but it takes"
            f" ({', '.join(parameters)}); wrap the module so that it does"
        )

    def loss(input_ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if named:
            output = forward(input_ids=input_ids, labels=labels, **extra)
        else:
            output = forward(input_ids, labels)
        return _loss_of(output, kind)

    return loss


def _loss_of(output: object, kind: str) -> torch.Tensor:
    if isinstance(output, (tuple, list)) and output and not hasattr(output, "loss"):
        output = output[0]
    elif isinstance(output, dict):
        output = output.get("loss")
    elif not isinstance(output, torch.Tensor):
        output = getattr(output, "loss", output)
    if output is None:
        raise GalvatronError(
            f"{kind}.forward returned no loss; compute the mean cross entropy from labels and return it"
        )
    if not isinstance(output, torch.Tensor):
        raise GalvatronError(
            f"expects {kind}.forward to return a loss tensor, but got {type(output).__name__};" " return the mean loss"
        )
    shape = [int(extent) for extent in output.shape]  # while tracing, extents are tensors
    if shape not in ([], [1]) or not output.is_floating_point():
        raise GalvatronError(
            f"expects {kind}.forward to return a scalar mean loss, but got shape {shape}"
            f" of {output.dtype}; average it over the tokens"
        )
    return output


@contextlib.contextmanager
def _loss_forward(module: nn.Module) -> Iterator[None]:
    """Makes `module.forward` take (input_ids, labels) and return the loss, keeping type names."""
    original = type(module)
    instance_forward = module.__dict__.pop("forward", None)
    if instance_forward is not None:
        module.forward = instance_forward
    compute = loss_function(module)
    module.__dict__.pop("forward", None)

    def forward(self, input_ids, labels):
        return compute(input_ids, labels)

    names = {"__module__": original.__module__, "__qualname__": original.__qualname__}
    module.__class__ = type(original.__name__, (original,), {**names, "forward": forward})
    try:
        yield
    finally:
        module.__class__ = original
        if instance_forward is not None:
            module.forward = instance_forward


@contextlib.contextmanager
def _functions_written_out() -> Iterator[None]:
    """While tracing, `torch.autograd.Function`s appear as the operators of their forward.

    A trace has no place for a backward pass written in Python, and the compiler derives its own: so
    the two must agree, which is tried on random numbers for each call.
    """
    original = torch.autograd.Function.__dict__["apply"]

    def apply(function, *arguments, **named):
        call = original.__get__(None, function)
        state = torch._C._get_tracing_state()
        if state is None or named:
            return call(*arguments, **named)
        torch._C._set_tracing_state(None)
        try:
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


class _WithoutProducts(TorchDispatchMode):
    """Answers operators that read a large stride-0 tensor with zeros of the right shape.

    A trace needs shapes and control flow, never values of weights, and a product with an expanded
    70 B-parameter model would copy each matrix to full size. Views still run, so that aliasing
    stays; weights with memory of their own are untouched.
    """

    THRESHOLD = 1 << 14  # elements; below it, computing is cheaper than shape inference

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        views = any(r.alias_info is not None for r in func._schema.returns)
        if views or not any(self._is_weightless(a) for a in args):
            return func(*args, **kwargs)
        meta_args, meta_kwargs = tree_map_only(torch.Tensor, lambda t: t.to("meta"), (args, kwargs))
        if "device" in meta_kwargs:
            meta_kwargs["device"] = torch.device("meta")
        result = func(*meta_args, **meta_kwargs)
        return tree_map_only(torch.Tensor, lambda t: torch.zeros_like(t, device="cpu"), result)

    def _is_weightless(self, value: object) -> bool:
        return isinstance(value, torch.Tensor) and value.numel() > self.THRESHOLD and not any(value.stride())


@contextlib.contextmanager
def expanded_parameters(module: nn.Module) -> Iterator[None]:
    """For its extent, each parameter is one zero expanded to its shape (4 bytes of storage each).

    Tied parameters stay one object. Each keeps a storage of its own, for ties are recognised by
    their data pointer in the archive.
    """
    owners = [
        (owner, name, parameter)
        for owner in module.modules()
        for name, parameter in owner._parameters.items()
        if parameter is not None
    ]
    expanded: dict[int, nn.Parameter] = {}
    for owner, name, parameter in owners:
        if id(parameter) not in expanded:
            zero = torch.zeros(1, dtype=parameter.dtype).expand(parameter.shape)
            expanded[id(parameter)] = nn.Parameter(zero, requires_grad=parameter.requires_grad)
        owner._parameters[name] = expanded[id(parameter)]
    try:
        yield
    finally:
        for owner, name, parameter in owners:
            owner._parameters[name] = parameter
