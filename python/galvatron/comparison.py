"""Compares two traces of one module, and a trace with its module.

Traces are compared as programs, whatever the sizes of their examples: operators in order, what each
reads, every constant, and the buffers that are read.
"""

from __future__ import annotations

import dataclasses
import io
import warnings
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from galvatron import archive, places
from galvatron.errors import GalvatronError, last_line
from galvatron.watching import Watch

# Rounding: the same operators on the same numbers, but a trace may have merged some.
_RELATIVE, _OF_ALL = 1e-4, 1e-5


@dataclasses.dataclass
class Trace:
    module: torch.jit.ScriptModule
    watch: Watch
    steps: list[tuple]  # an operator each, as far as the loss or a check depends on it
    nodes: list[torch.Node]
    buffers: dict[str, tuple[torch.Tensor, int]]  # with the version that the trace read

    @staticmethod
    def of(module: torch.jit.ScriptModule, watch: Watch) -> Trace:
        graph = module.inlined_graph
        numbers = {value.unique(): i for i, value in enumerate(graph.inputs())}
        needed = _needed(graph, watch)
        nodes = [n for n in _nodes(graph) if any(v.unique() in needed for v in n.outputs())]
        steps = [_step(node, numbers) for node in nodes]
        buffers = {name: (b, b._version) for name, b in module.named_buffers(remove_duplicate=False)}
        trace = Trace(module, watch, steps, nodes, buffers)
        trace._graph = graph  # owns the nodes
        return trace

    def checks(self) -> list[tuple[places.Place, object]]:
        """What the forward took from sizes, in order."""
        return [(check.place, check.value) for check in self.watch.checks]


def _needed(graph: torch.Graph, watch: Watch) -> set[int]:
    """Values on which the loss or a checked truth depends; not what joins the two (see `Watch.checked`)."""
    (loss,) = graph.outputs()
    roots = [loss]
    if watch.checks:
        loss, token, *_ = loss.node().inputs()
        roots = [loss]
        for i in reversed(range(len(watch.checks))):
            truth, _, token = list(token.node().inputs())
            roots.append(next(truth.node().inputs()) if i in watch.relaxed else truth)
    for node in _nodes(graph):
        if node.kind().endswith("_") and not node.kind().endswith("__"):  # writes to what others read
            roots += node.outputs()
    found: set[int] = set()
    while roots:
        value = roots.pop()
        if value.unique() not in found:
            found.add(value.unique())
            for node in (value.node(), *(n for block in value.node().blocks() for n in _nodes(block))):
                roots += node.inputs()
                found.update(output.unique() for output in node.outputs())
    return found


def _nodes(block: torch.Graph | torch.Block) -> Iterator[torch.Node]:
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)


def _step(node: torch.Node, numbers: dict[int, int]) -> tuple:
    inputs = tuple(numbers.get(value.unique(), -1) for value in node.inputs())
    for block in node.blocks():
        for value in block.inputs():
            numbers[value.unique()] = len(numbers)
    for value in node.outputs():
        numbers[value.unique()] = len(numbers)
    attributes = tuple((name, _constant(getattr(node, node.kindOf(name))(name))) for name in node.attributeNames())
    return (node.kind(), attributes, inputs)


def _constant(value: object) -> object:
    if isinstance(value, torch.Tensor):
        content = bytes(value.detach().contiguous().flatten().view(torch.uint8).numpy()) if value.numel() else b""
        return (str(value.dtype), tuple(value.shape), content)
    return str(value)


def difference(one: Trace, other: Trace) -> places.Place | None:
    """Where `one` first is another program than `other`; None if they are the same."""
    for i, (a, b) in enumerate(zip(one.steps, other.steps)):
        if a != b:
            return _author(one.nodes, i)
    if len(one.steps) != len(other.steps):
        longer = max(one, other, key=lambda trace: len(trace.steps))
        return places.of_node(longer.nodes[min(len(one.steps), len(other.steps))])
    for a, b in zip(one.watch.strides, other.watch.strides):
        if a != b:
            return a[0]
    for name, (buffer, version) in one.buffers.items():
        second, second_version = other.buffers.get(name, (None, 0))
        if buffer is second and version == second_version:
            continue
        if second is None or buffer.shape != second.shape or not torch.equal(buffer, second):
            return places.Place(f"buffer {name}", "", 0)
    return None


def _author(nodes: Sequence[torch.Node], index: int) -> places.Place:
    """The place of the node, or of the next that has one: constants of a tracer's making have none."""
    for node in nodes[index:]:
        place = places.of_node(node)
        if place.file:
            return place
    return places.of_node(nodes[index])


class _SameDraws(TorchDispatchMode):
    """Every random operator starts from one seed: its draws do not depend on those before."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if torch.Tag.nondeterministic_seeded in function.tags:
            torch.manual_seed(0)
        return function(*args, **(kwargs or {}))


def loss_and_gradients(
    compute: Callable, module: nn.Module, inputs: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """As a training step computes them; leaves the parameters' own gradients as they are."""
    kept = {name: (parameter, parameter.grad) for name, parameter in module.named_parameters()}
    gradients = {}
    try:
        for parameter, _ in kept.values():
            parameter.grad = None
        with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(devices=[]), _SameDraws():
            loss = compute(*inputs)
            loss.sum().backward()
        for name, (parameter, _) in kept.items():
            if parameter.requires_grad:
                gradients[name] = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    finally:
        for parameter, gradient in kept.values():
            parameter.grad = gradient
    return loss.detach().reshape(()), gradients


def _reloaded(trace: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    memory = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(trace, memory)
        memory.seek(0)
        loaded = torch.jit.load(memory)
    archive.narrow_numbers(loaded)
    return loaded


def check_equal(
    trace: torch.jit.ScriptModule, module: nn.Module, compute: Callable, inputs: Sequence[torch.Tensor]
) -> None:
    """Refuses a trace with another loss, or other gradients, than the module on these inputs."""
    wanted_loss, wanted = loss_and_gradients(compute, module, inputs)
    loaded = _reloaded(trace)  # with parameters of its own, on which no hook is
    try:
        with torch.jit.optimized_execution(False):
            loss, gradients = loss_and_gradients(loaded, loaded, inputs)
    except RuntimeError as error:
        raise GalvatronError(
            f"the trace of {type(module).__name__} does not run, though the module does: {last_line(error)}; write what"
            " it names with tensors of one type, or with operators that a trace holds"
        ) from error
    # A number that meets a tensor without dimensions is a float64 tensor in a trace.
    if not torch.allclose(loss.double(), wanted_loss.double(), rtol=1e-5, atol=1e-6, equal_nan=True):
        raise GalvatronError(
            f"the trace of {type(module).__name__} gives another loss on its example than the module:"
            f" {float(loss):.6g}, not {float(wanted_loss):.6g}; its forward does what a trace does not hold"
        )
    everything = torch.stack([g.double().square().sum() for g in wanted.values()]).sum().sqrt()
    for name, expected in wanted.items():
        error = (gradients.get(name, torch.zeros(())) - expected).double().norm()
        if error > max(_RELATIVE * expected.double().norm(), _OF_ALL * everything):
            raise GalvatronError(
                f"the trace of {type(module).__name__} gives another gradient of {name} than the module: they"
                f" differ by {float(error):.3g} of {float(expected.double().norm()):.3g}; the module's backward pass"
                " is not its forward's derivative (a hook, a function of its own, gradients that are stopped)"
            )
