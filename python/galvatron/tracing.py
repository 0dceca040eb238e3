"""Traces a module whose result is the mean loss, with or without memory for its weights.

The trace is of the module itself, not of a wrapper, so that attribute paths in the archive are the
module's own parameter names. For the time of the trace its class is a subclass whose `forward` takes
the example's inputs and returns the loss alone.
"""

from __future__ import annotations

import contextlib
import inspect
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from galvatron import functions, states
from galvatron.errors import GalvatronError
from galvatron.watching import Watch


INPUTS = ("input_ids", "labels", "position_ids")


def trace(
    module: nn.Module,
    inputs: Mapping[str, torch.Tensor],
    weightless: bool = False,
    forced: Sequence[object] | None = None,
    relaxed: Collection[int] = (),
) -> tuple[torch.jit.ScriptModule, Watch]:
    """Traces one training step's forward; the result is the mean loss, float []. Also returns what was seen of the
    forward meanwhile.

    inputs      by name: `INPUTS`, the last or without it, int64 [batch, seq]; or what forward takes by keyword, int64 or
                float32, batch first.
    weightless  parameters are those of `expanded_parameters`: nothing is computed with them.
    forced, relaxed  see `Watch`.
    """
    watch = Watch(module, forced, relaxed)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_loss_forward(module, watch, tuple(inputs)))
        stack.enter_context(states.noting_assignments(watch.names, watch.assigned))
        stack.enter_context(functions.written_out(within=watch.derived_backward))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # what the tracer warns of, `watch` judges
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.random.fork_rng(devices=[]))
        # What a backward pass would need is not kept: at 80 layers, that is gigabytes.
        stack.enter_context(torch.autograd.graph.saved_tensors_hooks(lambda tensor: None, _no_backward))
        if weightless:
            stack.enter_context(_WithoutProducts())
        if forced:
            stack.enter_context(_WithoutChecks())
        stack.enter_context(watch.hashing())
        stack.enter_context(watch)
        return torch.jit.trace(module, tuple(inputs.values()), check_trace=False), watch


def _no_backward(packed: None) -> torch.Tensor:
    raise GalvatronError("the forward pass runs a backward pass, which a trace does not hold")


def are_tokens(names: Sequence[str]) -> bool:
    """Whether inputs of these names are tokens with labels, as files of tokens give them."""
    return tuple(names) in (INPUTS[:2], INPUTS)


def loss_function(module: nn.Module, names: Sequence[str] = INPUTS[:2]) -> Callable[..., torch.Tensor]:
    """`module`'s forward as a function of inputs of these names, in order, that returns the mean loss [].

    Named arguments where it has those names; positional ones where it does not and they are those of `INPUTS`. A model
    that could return a cache is told not to. Accepts a tensor, an object or dictionary with `loss`, or a tuple
    that begins with it or has it as its only scalar.
    """
    forward = module.forward
    parameters = inspect.signature(forward).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    # Of nothing but *args and **kwargs, whoever is called in the end knows the names.
    is_passed_on = takes_any and all(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters.values())
    named = set(names) <= parameters.keys() or is_passed_on or (takes_any and not are_tokens(names))
    count = len(names)
    extra = {"use_cache": False} if named and "use_cache" in parameters else {}
    kind = type(module).__name__
    positional = [p for p in parameters.values() if p.kind <= p.POSITIONAL_OR_KEYWORD]
    required = [p for p in positional if p.default is p.empty]
    # nanoGPT's forward(idx, targets=None), too.
    if not named and not are_tokens(names):
        unknown = next(name for name in names if name not in parameters)
        raise GalvatronError(
            f"{kind}.forward takes no {unknown}, which the example inputs name; it takes ({', '.join(parameters)})"
        )
    if not named and len(required) != count and not (len(positional) == count and len(required) < count):
        raise GalvatronError(
            f"expects {kind}.forward to take {' and '.join(names)}, but it takes"
            f" ({', '.join(parameters)}); wrap the module so that it does"
        )

    def loss(*inputs: torch.Tensor) -> torch.Tensor:
        if named:
            output = forward(**dict(zip(names, inputs, strict=True)), **extra)
        else:
            output = forward(*inputs)
        return _loss_of(output, kind)

    return loss


def _loss_of(output: object, kind: str) -> torch.Tensor:
    if isinstance(output, (tuple, list)) and output and not hasattr(output, "loss"):
        losses = [o for o in output if isinstance(o, torch.Tensor) and _is_loss(o)]
        output = losses[0] if len(losses) == 1 else output[0]
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
    if not _is_loss(output):
        raise GalvatronError(
            f"expects {kind}.forward to return a scalar mean loss, but got shape {shape}"
            f" of {output.dtype}; average it over the tokens"
        )
    return output


def _is_loss(output: torch.Tensor) -> bool:
    """A number, whose rank says so: to ask a trace for extents makes the program depend on them."""
    return output.is_floating_point() and (output.dim() == 0 or (output.dim() == 1 and int(output.shape[0]) == 1))


@contextlib.contextmanager
def _loss_forward(module: nn.Module, watch: Watch, names: Sequence[str]) -> Iterator[None]:
    """Makes `module.forward` take the inputs of these names and return the loss, keeping type names."""
    original = type(module)
    instance_forward = module.__dict__.pop("forward", None)
    if instance_forward is not None:
        module.forward = instance_forward
    compute = loss_function(module, names)
    module.__dict__.pop("forward", None)

    def forward(self, *inputs):
        watch.begin(*inputs)
        return watch.checked(compute(*inputs))

    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    forward.__signature__ = inspect.Signature([own, *(own.replace(name=name) for name in names)])
    kept = {"__module__": original.__module__, "__qualname__": original.__qualname__}
    module.__class__ = type(original.__name__, (original,), {**kept, "forward": forward})
    try:
        yield
    finally:
        module.__class__ = original
        if instance_forward is not None:
            module.forward = instance_forward


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


class _WithoutChecks(TorchDispatchMode):
    """Traces checks that do not hold: forced values are no truth."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._functional_assert_async.msg:
            return args[2].clone()
        return function(*args, **(kwargs or {}))


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
