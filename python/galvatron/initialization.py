"""Reads how a module initialises its parameters, without giving them memory.

A weightless model starts from random values that the runtime draws, so it must know each
parameter's distribution. A table by model name would be wrong for the next model; instead the
module's own constructor and initialiser run on parameters without storage while a dispatch mode
watches what is written to them: `normal_`, `uniform_`, `fill_`, `zero_`, scalings of those, and
writes to a part (the zeroed padding row of an embedding). The last write wins, as it does in memory.

Buffers stay real: rotary frequencies and the like are computed in constructors.
"""

from __future__ import annotations

import contextlib
import dataclasses
import numbers
from collections.abc import Iterator

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

# Attribute of a parameter built inside `weightless()`: its `Initialization`.
INITIALIZATION_ATTRIBUTE = "_galvatron_initialization"


@dataclasses.dataclass(frozen=True)
class Distribution:
    """What an element is drawn from.

    kind      parameters
    constant  value
    normal    mean, std
    uniform   low, high (high excluded)
    truncated_normal  mean, std, low, high: normal, drawn again until low <= x <= high
    unknown   reason
    """

    kind: str
    parameters: tuple[tuple[str, object], ...] = ()

    @staticmethod
    def make(kind: str, **parameters: object) -> Distribution:
        if kind == "normal" and parameters["std"] == 0:
            return Distribution.make("constant", value=parameters["mean"])
        return Distribution(kind, tuple(parameters.items()))

    def __getitem__(self, key: str):
        return dict(self.parameters)[key]

    def scaled(self, scale: float, shift: float) -> Distribution:
        """The distribution of `scale * x + shift`."""
        moved = {
            key: value * abs(scale) if key == "std" else value * scale + shift
            for key, value in self.parameters
            if self.kind != "unknown"
        }
        if self.kind == "unknown":
            return self
        if scale < 0 and "low" in moved:
            moved["low"], moved["high"] = moved["high"], moved["low"]
        return Distribution.make(self.kind, **moved)

    def to_json(self) -> dict:
        return {"kind": self.kind, **dict(self.parameters)}


def unknown(reason: str) -> Distribution:
    return Distribution.make("unknown", reason=reason)


@dataclasses.dataclass
class Initialization:
    """A parameter's distribution, and the row-major element ranges that differ from it."""

    distribution: Distribution
    ranges: list[tuple[int, int, Distribution]] = dataclasses.field(default_factory=list)

    def to_json(self) -> dict:
        result = self.distribution.to_json()
        if self.ranges:
            result["ranges"] = [
                {"begin": begin, "end": end, "distribution": distribution.to_json()}
                for begin, end, distribution in self.ranges
            ]
        return result

    def is_known(self) -> bool:
        return all(
            d.kind != "unknown" for d in [self.distribution, *(entry[2] for entry in self.ranges)]
        )

    def write(self, begin: int, end: int, size: int, distribution: Distribution) -> None:
        """Records a write to elements [begin, end) of `size`."""
        if begin == 0 and end == size:
            self.distribution, self.ranges = distribution, []
            return
        kept = [entry for entry in self.ranges if entry[1] <= begin or entry[0] >= end]
        for entry in self.ranges:
            if entry in kept:
                continue
            if entry[0] < begin:
                kept.append((entry[0], begin, entry[2]))
            if entry[1] > end:
                kept.append((end, entry[1], entry[2]))
        if distribution != self.distribution:
            kept.append((begin, end, distribution))
        self.ranges = sorted(kept, key=lambda entry: entry[0])

    def scale(self, scale: float, shift: float) -> None:
        self.distribution = self.distribution.scaled(scale, shift)
        self.ranges = [(b, e, d.scaled(scale, shift)) for b, e, d in self.ranges]

    def copy(self) -> Initialization:
        return Initialization(self.distribution, list(self.ranges))


def measured(values: torch.Tensor, std: float) -> Initialization:
    """For a parameter whose initialiser was not seen: constant if its values are all equal (norm
    weights, biases), else normal(0, std)."""
    flat = values.detach().reshape(-1)
    if flat.numel() and bool((flat == flat[0]).all()):
        return Initialization(Distribution.make("constant", value=float(flat[0])))
    return Initialization(Distribution.make("normal", mean=0.0, std=std))


def is_placeholder(tensor: torch.Tensor) -> bool:
    """Whether a parameter has no values of its own: on the meta device, or all strides 0."""
    return tensor.is_meta or (tensor.numel() > 1 and not any(tensor.stride()))


# Operators that make a new tensor with known contents; the argument after the shape, if any, is
# the value.
_FACTORIES = {
    "zeros": lambda args: Distribution.make("constant", value=0.0),
    "zeros_like": lambda args: Distribution.make("constant", value=0.0),
    "new_zeros": lambda args: Distribution.make("constant", value=0.0),
    "ones": lambda args: Distribution.make("constant", value=1.0),
    "ones_like": lambda args: Distribution.make("constant", value=1.0),
    "new_ones": lambda args: Distribution.make("constant", value=1.0),
    "full": lambda args: Distribution.make("constant", value=float(args[1])),
    "full_like": lambda args: Distribution.make("constant", value=float(args[1])),
    "new_full": lambda args: Distribution.make("constant", value=float(args[2])),
    "randn": lambda args: Distribution.make("normal", mean=0.0, std=1.0),
    "randn_like": lambda args: Distribution.make("normal", mean=0.0, std=1.0),
    "rand": lambda args: Distribution.make("uniform", low=0.0, high=1.0),
    "rand_like": lambda args: Distribution.make("uniform", low=0.0, high=1.0),
}


def _scalar(value: object) -> float | None:
    if isinstance(value, numbers.Number):
        return float(value)
    if isinstance(value, torch.Tensor) and value.numel() == 1 and not value.is_meta:
        return float(value)
    return None


def _affine(name: str, args: tuple, kwargs: dict) -> tuple[float, float] | None:
    """(scale, shift) of an elementwise operator with a number, or None when it is another one."""
    value = _scalar(args[1]) if len(args) > 1 else None
    if value is None:
        return None
    alpha = float(kwargs.get("alpha", args[2] if len(args) > 2 else 1))
    return {
        "mul": (value, 0.0),
        "div": (1.0 / value if value else float("inf"), 0.0),
        "add": (1.0, alpha * value),
        "sub": (1.0, -alpha * value),
    }.get(name)


class _Recorder(TorchDispatchMode):
    """Follows the contents of every storage made while it is active.

    Entries are keyed by storage; a storage freed and its key reused is no problem, since every
    operator that makes a tensor overwrites or removes the entry.
    """

    def __init__(self) -> None:
        super().__init__()
        self.states: dict[int, Initialization] = {}

    @staticmethod
    def key(tensor: torch.Tensor) -> int:
        return tensor.untyped_storage()._cdata

    def state(self, tensor: torch.Tensor) -> Initialization:
        found = self.states.get(self.key(tensor))
        return found or Initialization(unknown("is never initialised"))

    def write(self, tensor: torch.Tensor, distribution: Distribution) -> None:
        """Records that all of `tensor`, maybe a view of a part, is drawn from `distribution`."""
        size = tensor.untyped_storage().nbytes() // tensor.element_size()
        state = self.states.setdefault(self.key(tensor), self.state(tensor).copy())
        begin, count = tensor.storage_offset(), tensor.numel()
        if tensor.is_contiguous():
            state.write(begin, begin + count, size, distribution)
        elif count == size:
            state.write(0, size, size, distribution)
        else:
            state.write(0, size, size, unknown("is initialised in a strided part"))

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = func.overloadpacket.__name__
        target = args[0] if args and isinstance(args[0], torch.Tensor) else None
        if target is not None and name.endswith("_") and not name.endswith("__"):
            self._in_place(name.rstrip("_"), target, args, kwargs)
        elif isinstance(result, torch.Tensor):
            self._out_of_place(name, result, target, args, kwargs)
        return result

    def _in_place(self, name: str, target: torch.Tensor, args: tuple, kwargs: dict) -> None:
        def argument(position: int, key: str, default: float) -> float:
            return float(args[position] if len(args) > position else kwargs.get(key, default))

        if name == "normal":
            mean, std = argument(1, "mean", 0.0), argument(2, "std", 1.0)
            self.write(target, Distribution.make("normal", mean=mean, std=std))
        elif name == "uniform":
            low, high = argument(1, "from", 0.0), argument(2, "to", 1.0)
            self.write(target, Distribution.make("uniform", low=low, high=high))
        elif name in ("zero", "fill"):
            value = 0.0 if name == "zero" else _scalar(args[1])
            known = value is not None
            self.write(
                target,
                (
                    Distribution.make("constant", value=value)
                    if known
                    else unknown("is filled with a value that is not known at export")
                ),
            )
        elif name == "copy":
            self._copy(target, args[1])
        elif name in (
            "requires_grad",
            "resize",
            "detach",
            "t",
            "transpose",
            "squeeze",
            "unsqueeze",
        ):
            pass
        elif (affine := _affine(name, args, kwargs)) and target.numel() == self._size(target):
            self.states.setdefault(self.key(target), self.state(target).copy()).scale(*affine)
        else:
            self.write(target, unknown(f"is initialised by aten::{name}_"))

    def _copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        whole = target.numel() == self._size(target) and source.shape == target.shape
        if self.key(source) in self.states and source.numel() == self._size(source) and whole:
            self.states[self.key(target)] = self.states[self.key(source)].copy()
            return
        constant = source.is_meta or measured(source, 1.0).distribution
        if isinstance(constant, Distribution) and constant.kind == "constant":
            self.write(target, constant)
        else:
            self.write(target, unknown("is copied from computed values"))

    def _out_of_place(self, name, result, target, args, kwargs) -> None:
        inputs = [a for a in args if isinstance(a, torch.Tensor)]
        key = self.key(result)
        if any(self.key(a) == key for a in inputs):
            return  # a view, or an output given by the caller
        known = self.states.get(self.key(target)) if target is not None else None
        if name in _FACTORIES:
            self.states[key] = Initialization(_FACTORIES[name](args))
        elif known and name in ("clone", "_to_copy") and target.numel() == self._size(target):
            self.states[key] = known.copy()
        elif known and (affine := _affine(name, args, kwargs)):
            self.states[key] = known.copy()
            self.states[key].scale(*affine)
        else:
            self.states.pop(key, None)

    @staticmethod
    def _size(tensor: torch.Tensor) -> int:
        return tensor.untyped_storage().nbytes() // tensor.element_size()


@contextlib.contextmanager
def weightless() -> Iterator[None]:
    """Builds modules whose parameters take no memory and remember how they are initialised.

    Inside, every `nn.Parameter` that a module registers moves to the meta device; buffers stay
    real. `galvatron.export.save(…, weightless=True)` then writes the recorded distributions.
    """
    recorder = _Recorder()
    parameters: list[nn.Parameter] = []
    replaced = "_galvatron_replaced_by"
    register = nn.Module.register_parameter

    def register_without_storage(self, name, parameter):
        if isinstance(parameter, nn.Parameter) and not parameter.is_meta:
            known = getattr(parameter, replaced, None)
            if known is None:
                attributes = dict(parameter.__dict__)
                data = torch.empty_like(parameter, device="meta", requires_grad=False)
                known = type(parameter)(data, requires_grad=parameter.requires_grad)
                known.__dict__.update(attributes)
                recorder.states[recorder.key(known)] = recorder.state(parameter).copy()
                setattr(parameter, replaced, known)
            parameter = known
        if isinstance(parameter, nn.Parameter):
            parameters.append(parameter)
        register(self, name, parameter)

    nn.Module.register_parameter = register_without_storage
    try:
        with _truncated_normal_recorded(recorder), recorder:
            yield
    finally:
        nn.Module.register_parameter = register
    for parameter in parameters:
        setattr(parameter, INITIALIZATION_ATTRIBUTE, recorder.state(parameter))


@contextlib.contextmanager
def _truncated_normal_recorded(recorder: _Recorder) -> Iterator[None]:
    """`trunc_normal_` draws by rejection, and does nothing on the meta device, so it is seen where
    it is called. Transformers keeps its own table of torch's initialisers."""
    original = nn.init.trunc_normal_

    def trunc_normal_(tensor, mean=0.0, std=1.0, a=-2.0, b=2.0, generator=None):
        values = dict(mean=float(mean), std=float(std), low=float(a), high=float(b))
        recorder.write(tensor, Distribution.make("truncated_normal", **values))
        return tensor

    tables: list[dict] = []
    try:
        from transformers import initialization as transformers_initialization

        tables.append(transformers_initialization.TORCH_INIT_FUNCTIONS)
    except (ImportError, AttributeError):
        pass
    nn.init.trunc_normal_ = trunc_normal_
    for table in tables:
        table["trunc_normal_"] = trunc_normal_
    try:
        yield
    finally:
        nn.init.trunc_normal_ = original
        for table in tables:
            table["trunc_normal_"] = original
