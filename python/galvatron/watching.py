"""Watches a forward while it is traced, for what a trace does not hold.

A trace records operators on tensors. What else a forward does is made right here, or refused with its line:

    a Python value of a tensor     taken from sizes: the trace gets a check that an import at other sizes
                                   would compute the same value; from tokens, weights or random numbers: refused
    operators without grad mode    their operands are detached, as far as they depend on parameters
    `.data`                        is `.detach()`
    hooks, gradients               refused
    writes to module state         refused

Each tensor has an origin: the union of its operands'. Constants and buffers have none.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
from collections.abc import Callable, Collection, Iterator, Sequence

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only
from torch.utils.weak import WeakTensorKeyDictionary

from galvatron import calls, places, states
from galvatron.errors import GalvatronError, first_line
from galvatron.transcripts import Transcript


class Origin(enum.IntFlag):
    NOTHING = 0
    SIZES = 1  # of tensors
    VALUES = 2  # tokens, labels and parameters
    DRAWN = 4  # random numbers


@dataclasses.dataclass(frozen=True)
class Check:
    """A Python value that the forward took from sizes, and the traced truth that it is this one."""

    place: places.Place
    value: object
    holds: torch.Tensor


class Watch(TorchFunctionMode):
    """Active within its context, on traced operators only.

    forced   the values that the forward is given where it takes one from sizes, in order, instead of those that
             it would compute; `overruled` has the numbers of those that differ. None: no transcript either.
    relaxed  numbers of checks that need not hold for a batch of one sample.
    """

    def __init__(
        self, module: nn.Module, forced: Sequence[object] | None = None, relaxed: Collection[int] = ()
    ) -> None:
        super().__init__()
        self.forced = forced
        self.relaxed = relaxed
        self.overruled: list[int] = []
        self.transcript = Transcript()
        self.names = {id(m): name for name, m in module.named_modules()}
        self.origins = WeakTensorKeyDictionary()
        self.held: dict[int, str] = {}  # module state by the address of its memory
        self.checks: list[Check] = []
        self.strides: list[tuple[places.Place, object]] = []
        self.read: set[str] = set()  # names in `held`
        self.assigned: dict[str, places.Place] = {}  # attributes of modules
        self.vocabulary: int | None = None  # rows of the smallest table that tokens are looked up in
        self.has_gradient = False
        self._inputs: tuple[torch.Tensor, ...] = ()
        self._differentiable = 0
        self._failure: tuple[places.Place, Exception] | None = None
        self._parameters = {id(p) for p in module.parameters()}
        for name, parameter in module.named_parameters(remove_duplicate=False):
            self.origins[parameter] = Origin.VALUES
            self.transcript.number(parameter)
            self._hold(name, parameter)
        for name, buffer in module.named_buffers(remove_duplicate=False):
            self._hold(name, buffer)
        for name, value in states.plain_attributes(module):
            if isinstance(value, torch.Tensor):
                self._hold(name, value)

    def _hold(self, name: str, tensor: torch.Tensor) -> None:
        if address := calls.address(tensor):
            self.held.setdefault(address, name)

    def begin(self, *inputs: torch.Tensor) -> None:
        self._inputs = inputs
        for tensor in inputs:
            self.origins[tensor] = Origin.VALUES
            self.transcript.number(tensor)

    @contextlib.contextmanager
    def hashing(self) -> Iterator[None]:
        """For its extent a size is a key of dictionaries and sets as its number is; that takes the number."""
        original = torch.Tensor.__hash__

        def key(tensor: torch.Tensor) -> int:
            tracing = torch._C._get_tracing_state() is not None
            if not tracing or tensor.dim() or self.origins.get(tensor) != Origin.SIZES:
                return original(tensor)
            return hash(self._took("hash", [tensor], tensor.item(), Origin.SIZES))

        torch.Tensor.__hash__ = key
        try:
            yield
        finally:
            torch.Tensor.__hash__ = original

    @contextlib.contextmanager
    def derived_backward(self) -> Iterator[None]:
        """Grad mode says nothing here: inside the forward of a function whose backward was tried."""
        self._differentiable += 1
        try:
            yield
        finally:
            self._differentiable -= 1

    def checked(self, loss: torch.Tensor) -> torch.Tensor:
        """The loss, on condition that all checks hold."""
        if self._failure:
            place, error = self._failure
            self.refuse(f"catches an operator's failure, which a trace does not hold: {first_line(error)}", place)
        self.has_gradient = loss.requires_grad
        if not self.checks:
            return loss
        token = torch.zeros(())
        for i, check in enumerate(self.checks):
            holds = check.holds
            if i in self.relaxed:
                holds = torch.logical_or(holds, torch.eq(self._inputs[0].shape[0], 1))
            message = f"{check.place} computes in Python with the sizes, and otherwise for these than for the example's"
            token = torch._functional_assert_async(holds, message, token)
        return loss + token

    def refuse(self, what: str, place: places.Place | None = None) -> None:
        raise GalvatronError(f"{place or places.here(self.names)} {what}")

    def __torch_function__(self, function: Callable, types: object, args: tuple = (), kwargs: dict | None = None):
        kwargs = kwargs or {}
        if torch._C._get_tracing_state() is None:
            return function(*args, **kwargs)
        name = calls.name_of(function)
        tensors = list(calls.tensors_in((args, kwargs)))
        if name == "data":
            function, name = torch.Tensor.detach, "detach"
        if name in calls.METADATA or not tensors:
            result = function(*args, **kwargs)
            self._derive(result, Origin.DRAWN if name in calls.DRAWN else Origin.NOTHING)
            return result
        self._refuse_backward(name, tensors)
        target = calls.target_of(name, args, kwargs)
        if target is not None and calls.address(target) in self.held:
            self._refuse_state(target)
        if self._runs_without_gradient(name) and any(t.requires_grad for t in tensors):
            if target is not None and target.requires_grad:
                self.refuse(f"writes without grad mode ({name}) to a tensor that has a gradient; write it out of place")
            args, kwargs = tree_map_only(torch.Tensor, _detached, (args, kwargs))
        origin = self._origin(name, tensors)
        if name in calls.COPIES:
            return self._copied(function, name, args, kwargs)
        if name == "__iter__":
            rows = tensors[0].unbind(0)
            self._took(name, [tensors[0].shape[0]], len(rows), Origin.SIZES)
            self._derive(rows, origin)
            return iter(rows)
        state = [t for t in tensors if calls.address(t) in self.held and not t.is_inference()]
        self.read.update(self.held[calls.address(t)] for t in state)
        versions = [t._version for t in state]
        try:
            result = function(*args, **kwargs)
        except Exception as error:
            if torch._C._get_tracing_state() is None:  # the tracer stops at an operator that fails
                self._failure = (places.here(self.names), error)
            raise
        for tensor, version in zip(state, versions):
            if tensor._version != version:
                self._refuse_state(tensor)
        if name == "embedding" and origin & Origin.VALUES:
            self._saw_table(*tensors[:2])
        if target is not None:
            self.origins[target] = self.origins.get(target, Origin.NOTHING) | origin
        if origin & Origin.VALUES and self.forced is not None:
            self.transcript.add(name, args, kwargs)
        if origin and calls.is_python_value(result):
            result = self._took(name, tensors, result, origin)
        self._derive(result, origin)
        return result

    def _runs_without_gradient(self, name: str) -> bool:
        return not torch.is_grad_enabled() and not self._differentiable and name not in calls.SIZES | calls.STRIDES

    def _origin(self, name: str, tensors: list[torch.Tensor]) -> Origin:
        if name in calls.SIZES or name in calls.STRIDES:
            of_data = id(tensors[0]) not in self._parameters and self.origins.get(tensors[0], Origin.NOTHING)
            return Origin.SIZES if of_data else Origin.NOTHING
        result = Origin.DRAWN if name in calls.DRAWN else Origin.NOTHING
        for i, tensor in enumerate(tensors):
            origin = self.origins.get(tensor, Origin.NOTHING)
            result |= Origin.SIZES if origin and i == 0 and name in calls.LIKE else origin
        return result

    def _saw_table(self, indices: torch.Tensor, table: torch.Tensor) -> None:
        if self.origins.get(indices, Origin.NOTHING) & Origin.VALUES:
            rows = int(table.size(0))
            self.vocabulary = min(self.vocabulary or rows, rows)

    def _derive(self, result: object, origin: Origin) -> None:
        for tensor in calls.tensors_in(result):
            self.origins[tensor] = self.origins.get(tensor, Origin.NOTHING) | origin
            if origin & Origin.VALUES:
                self.transcript.number(tensor)

    def _refuse_backward(self, name: str, tensors: list[torch.Tensor]) -> None:
        if name in calls.HOOKS:
            self.refuse(f"registers a hook on a gradient ({name}), which the compiled backward pass would not run")
        if name == "data=":
            self.refuse("assigns to .data, which a trace does not hold; compute a tensor of its own")
        if name in calls.GRADIENTS and any(t.requires_grad for t in tensors):
            self.refuse(f"uses gradients in the forward pass ({name}), which a trace does not hold")

    def _refuse_state(self, tensor: torch.Tensor) -> None:
        self.refuse(
            f"changes {self.held[calls.address(tensor)]} in the forward pass, which a compiled step does not;"
            " call eval() on a submodule that only counts or averages in training, or compute it outside"
        )

    def _took(self, name: str, tensors: list[torch.Tensor], value: object, origin: Origin) -> object:
        """The forward takes `value`, a Python value, from these tensors; returns what it is given."""
        if not origin:
            return value
        place = places.here(self.names)
        if origin & Origin.DRAWN and not origin & Origin.VALUES:
            self.refuse("decides by a random number, which a trace would hold as drawn at export", place)
        if origin & Origin.VALUES:
            self.refuse(
                f"takes a Python value from tokens or weights ({name.strip('_')}), which the trace would hold as"
                " the example has it; compute with tensors, for example with torch.where, or leave it out where"
                " torch.jit.is_tracing()",
                place,
            )
        if name in calls.STRIDES:
            self.strides.append((place, value))
        elif len(tensors) == 1 and tensors[0].numel() == 1:
            number = value if isinstance(value, bool) else tensors[0].item()
            index = len(self.checks)
            if self.forced and index < len(self.forced) and self.forced[index] != number:
                self.overruled.append(index)
                number = self.forced[index]
                value = type(value)(number)
            self.checks.append(Check(place, number, _is_value(tensors[0], number)))
        else:
            seen: list[list[int]] = []
            for data in self._inputs:
                if (shape := [int(extent) for extent in data.shape]) not in seen:
                    seen.append(shape)
                    for dim, extent in enumerate(shape):
                        self.checks.append(Check(place, extent, torch.eq(data.shape[dim], extent)))
        return value

    def _copied(self, function: Callable, name: str, args: tuple, kwargs: dict) -> torch.Tensor:
        """torch.tensor(x): a constant to the tracer, but where x is a tensor, its copy."""
        data = args[1:] if name == "new_tensor" else args
        tensors = list(calls.tensors_in((data, kwargs)))
        origin = self._origin(name, tensors)
        options = {key: value for key, value in kwargs.items() if key in ("dtype", "device")}
        if name == "new_tensor":
            options = {"dtype": args[0].dtype, "device": args[0].device, **options}
        plain = len(data) == 1 and isinstance(data[0], torch.Tensor) and kwargs.keys() <= {"dtype", "device"}
        if origin and plain:
            result = data[0] if name in ("as_tensor", "asarray") else data[0].detach().clone()
            result = result.to(**options) if options else result
        else:
            for tensor in tensors if origin else ():
                self._took(name, [tensor], tensor.tolist(), self.origins.get(tensor, Origin.NOTHING))
            result = function(*args, **kwargs)
        self._derive(result, origin)
        return result


def _detached(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach() if tensor.requires_grad else tensor


def _is_value(tensor: torch.Tensor, value: bool | int | float) -> torch.Tensor:
    if not isinstance(value, bool):
        return torch.eq(tensor, value)
    truth = tensor if tensor.dtype == torch.bool else torch.ne(tensor, 0)
    return truth if value else torch.logical_not(truth)
