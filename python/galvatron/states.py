"""A module's state around a trace: its modes, what hangs on it, and what its forward changes.

The archive is of a module in training. Where some submodule already is in training mode, all keep the mode
they have; a module that is in eval mode throughout, as `from_pretrained` leaves it, is traced in training mode.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import types
from collections.abc import Iterator

import torch
from torch import nn

from galvatron import places
from galvatron.errors import GalvatronError

# Buffers beyond are not copied: that a forward writes to one is refused before it does, as a rule.
_COPIED_ELEMENTS = 1 << 20


@contextlib.contextmanager
def kept(module: nn.Module) -> Iterator[None]:
    """Afterwards every attribute, mode, parameter and (small) buffer is as it was before."""
    attributes = [(m, dict(m.__dict__)) for m in module.modules()]
    registered = [(d, dict(d)) for m in module.modules() for d in (m._parameters, m._buffers, m._modules)]
    values = [(b, b.detach().clone(), b._version) for b in module.buffers() if b.numel() <= _COPIED_ELEMENTS]
    try:
        yield
    finally:
        for owner, before in attributes:
            owner.__dict__.clear()
            owner.__dict__.update(before)
        for dictionary, before in registered:
            dictionary.clear()
            dictionary.update(before)
        with torch.no_grad():
            for buffer, value, version in values:
                if buffer._version != version:
                    buffer.copy_(value)


def set_modes(module: nn.Module) -> None:
    """See this file's head."""
    if not any(m.training for m in module.modules()):
        module.train()


def refuse_hooks(module: nn.Module) -> None:
    """Refuses hooks that only a backward pass in PyTorch would run, and those on the top module's result."""
    found = [
        (f"of {name or 'the top module'}", hook)
        for name, owner in module.named_modules()
        for hook in (*owner._backward_hooks.values(), *owner._backward_pre_hooks.values())
    ]
    found += [
        (f"of parameter {name}", hook)
        for name, parameter in module.named_parameters()
        for hooks in (parameter._backward_hooks, getattr(parameter, "_post_accumulate_grad_hooks", None))
        for hook in (hooks or {}).values()
    ]
    everywhere = torch.nn.modules.module
    found += [
        ("of all modules", hook)
        for hooks in (everywhere._global_backward_hooks, everywhere._global_backward_pre_hooks)
        for hook in hooks.values()
    ]
    for owner, hook in found:
        raise GalvatronError(
            f"a backward hook {owner} would not run in a compiled step: {places.of_function(hook)}; remove it"
        )
    for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values()):
        raise GalvatronError(
            f"a forward hook of the top module is not part of a compiled step: {places.of_function(hook)};"
            " call it in forward, or register it on a submodule"
        )


def plain_attributes(module: nn.Module) -> Iterator[tuple[str, object]]:
    """Of all submodules, by path; parameters, buffers and submodules are none."""
    for path, owner in module.named_modules():
        for name, value in owner.__dict__.items():
            yield (f"{path}.{name}" if path else name), value


@contextlib.contextmanager
def noting_assignments(names: dict[int, str], found: dict[str, places.Place]) -> Iterator[None]:
    """Adds to `found` where an attribute or buffer of a module in `names` is first assigned."""
    originals = {name: getattr(nn.Module, name) for name in ("__setattr__", "register_buffer")}

    def noting(original):
        @functools.wraps(original)
        def method(module: nn.Module, name: str, *rest, **named):
            if (path := names.get(id(module))) is not None:
                found.setdefault(f"{path}.{name}" if path else name, places.here(names))
            return original(module, name, *rest, **named)

        return method

    for name, original in originals.items():
        setattr(nn.Module, name, noting(original))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(nn.Module, name, original)


def _numbers(name: str, value: object) -> Iterator[tuple[str, object]]:
    """The number that an attribute or variable is, or those of a list or dictionary; where a counter stands."""
    if isinstance(value, (bool, int, float)):
        yield name, value
    elif isinstance(value, itertools.count):
        yield name, repr(value)
    elif isinstance(value, (list, dict)) and not name.rpartition(".")[2].startswith("_"):
        yield f"{name} (its length)", len(value)
        for key, element in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(element, (bool, int, float)):
                yield f"{name}[{key!r}]", element


def _outer_numbers(module: nn.Module) -> Iterator[tuple[str, object]]:
    """Of global and closed-over variables that the code of the module's classes names, and that of functions which
    it names in turn; not of libraries of PyTorch and Python."""
    waiting = [
        value for owner in module.modules() for kind in type(owner).__mro__ for value in vars(kind).values()
    ] + [value for _, value in plain_attributes(module)]
    seen = set()
    while waiting:
        function = waiting.pop()
        if isinstance(function, property):
            function = function.fget
        elif isinstance(function, (classmethod, staticmethod, types.MethodType)):
            function = function.__func__
        if not isinstance(function, types.FunctionType) or function in seen or places.is_of_library(function):
            continue
        seen.add(function)
        for name, value in _outer_variables(function):
            waiting.append(value)
            for path, number in _numbers(name, value):
                yield f"{path} of {places.of_function(function)}", number


def _outer_variables(function: types.FunctionType) -> Iterator[tuple[str, object]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
        with contextlib.suppress(ValueError):  # not assigned yet
            yield name, cell.cell_contents
    codes = [function.__code__]
    while codes:
        code = codes.pop()
        codes += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
        for name in code.co_names:
            if name in function.__globals__:
                yield name, function.__globals__[name]


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """Which tensors are a module's parameters, buffers and plain attributes, and the numbers that it keeps."""

    tensors: dict[str, tuple[torch.Tensor, bool]]
    numbers: dict[str, object]

    @staticmethod
    def of(module: nn.Module) -> Snapshot:
        registered = (*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False))
        attributes = [(name, value) for name, value in plain_attributes(module) if not name.endswith("training")]
        tensors = [*registered, *(pair for pair in attributes if isinstance(pair[1], torch.Tensor))]
        return Snapshot(
            {name: (tensor, tensor.requires_grad) for name, tensor in tensors},
            dict(itertools.chain(_outer_numbers(module), *(_numbers(*pair) for pair in attributes))),
        )

    def replaced(self, later: Snapshot) -> list[str]:
        """Names of tensors that are others, of another kind, or gone in `later`."""

        def same(name: str) -> bool:
            (before, trained), (after, trained_after) = self.tensors[name], later.tensors.get(name, (None, False))
            return before is after and trained == trained_after

        return [name for name in self.tensors if not same(name)]

    def renumbered(self, later: Snapshot) -> list[str]:
        """Names of attributes that are other numbers in `later`."""
        return [name for name, value in later.numbers.items() if self.numbers.get(name, value) != value]
