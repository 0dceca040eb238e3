"""A call of a tensor function, as a mode sees it: which function, on which tensors, and what kind it is of."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy
import torch

# What a function of these names tells is the same for all examples, or of no consequence.
METADATA = frozenset(
    "dim ndimension ndim dtype device layout itemsize element_size names get_device type type_as_string"
    " requires_grad requires_grad_ is_leaf retain_grad retains_grad output_nr name result_type can_cast"
    " promote_types has_names data_ptr untyped_storage storage storage_type _typed_storage volatile"
    " __hash__ __repr__ __format__ __str__ __dir__ __reduce_ex__ __dlpack_device__ _version _is_view _base"
    " is_contiguous is_floating_point is_complex is_signed is_inference is_neg is_conj is_same_size is_set_to"
    " is_pinned is_shared is_coalesced is_distributed is_sparse is_quantized is_nested is_meta is_cpu is_cuda"
    " is_mkldnn is_mps is_mtia is_xla is_xpu is_ipu is_hpu is_maia is_vulkan is_sparse_csr is_tensor".split()
)
SIZES = frozenset("shape size numel nelement nbytes __len__".split())
STRIDES = frozenset("stride storage_offset".split())
LIKE = frozenset("zeros_like ones_like empty_like new_zeros new_ones new_empty full_like new_full".split())
DRAWN = frozenset(
    "rand rand_like randn randn_like randint randint_like randperm normal bernoulli multinomial poisson"
    " normal_ uniform_ bernoulli_ random_ exponential_ geometric_ cauchy_ log_normal_".split()
)
COPIES = frozenset("tensor as_tensor asarray new_tensor".split())
HOOKS = frozenset("register_hook register_post_accumulate_grad_hook".split())
GRADIENTS = frozenset("grad grad_fn backward _grad _grad_fn".split())
_ASSIGNMENTS = frozenset(
    "__setitem__ __iadd__ __isub__ __imul__ __itruediv__ __ifloordiv__ __idiv__ __imod__ __ipow__ __iand__ __ior__"
    " __ixor__ __ilshift__ __irshift__".split()
)


def name_of(function: Callable) -> str:
    """`add` for Tensor.add, `shape` for the getter of Tensor.shape."""
    name = getattr(function, "__name__", "")
    if name in ("__get__", "__set__"):
        owner = function.__self__
        inner = getattr(owner, "__name__", None) or getattr(getattr(owner, "fget", None), "__name__", "")
        return inner if name == "__get__" else f"{inner}="
    return name


def tensors_in(value: object) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for element in value:
            yield from tensors_in(element)
    elif isinstance(value, dict):
        yield from tensors_in(tuple(value.values()))
    elif isinstance(value, slice):
        yield from tensors_in((value.start, value.stop, value.step))


def target_of(name: str, args: tuple, kwargs: dict) -> torch.Tensor | None:
    """The tensor that a function writes to."""
    if isinstance(kwargs.get("out"), torch.Tensor):
        return kwargs["out"]
    in_place = name in _ASSIGNMENTS or (name.endswith("_") and not name.endswith("__")) or name == "data="
    if (in_place or kwargs.get("inplace")) and args and isinstance(args[0], torch.Tensor):
        return args[0]
    return None


def address(tensor: torch.Tensor) -> int:
    return 0 if tensor.is_meta else tensor.untyped_storage().data_ptr()


def is_python_value(value: object) -> bool:
    """Whether numbers are in it, outside of tensors."""
    if isinstance(value, (tuple, list)):
        return any(is_python_value(element) for element in value)
    return isinstance(value, (bool, int, float, complex, numpy.ndarray, numpy.generic)) or _is_memory(value)


def _is_memory(value: object) -> bool:
    return type(value).__name__ == "PyCapsule"  # what __dlpack__ gives
