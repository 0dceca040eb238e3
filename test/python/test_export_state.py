"""Gradients, modes and state that a trace does not hold: right, or refused with the line."""

from __future__ import annotations

import itertools
import re

import pytest
import torch
from small_module import WIDTH, Small, losses, tokens
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from galvatron import archive, export
from galvatron.errors import GalvatronError


def save(module, path, **options):
    export.save(module, (tokens(), tokens(seed=4)), path / "model.pt", **options)
    return archive.load(path / "model.pt")[0]


def without_gradient(module, x, ids):
    with torch.no_grad():
        return x + module.linear(x)


def partly_without_gradient(module, x, ids):
    with torch.set_grad_enabled(False):
        y = module.linear(x)
    return x + y


@torch.no_grad()
def stopped(x):
    return x * 2


def written_without_gradient(module, x, ids):
    y = torch.zeros_like(x)
    with torch.no_grad():
        y.copy_(module.linear(x))
    return x + y


RIGHT = [
    lambda m, x, ids: m.linear(x).detach() * x,
    without_gradient,
    partly_without_gradient,
    lambda m, x, ids: x + stopped(m.linear(x)),
    written_without_gradient,
    lambda m, x, ids: m.linear(x).data * x,
    lambda m, x, ids: x + (torch.round(x) - x).detach(),
    lambda m, x, ids: x + checkpoint(m.linear, x, use_reentrant=True),
    lambda m, x, ids: x + checkpoint(m.linear, x, use_reentrant=False),
    lambda m, x, ids: x * functional.linear(x, m.linear.weight.detach()),
]


@pytest.mark.parametrize("middle", RIGHT)
@pytest.mark.parametrize("weightless", [False, True])
def test_stopped_gradients(middle, weightless, tmp_path):
    module = Small(middle).train()
    loaded = save(module, tmp_path, weightless=weightless, **({"init_std": 0.02} if weightless else {}))
    if weightless:  # one program
        with_weights = save(module, tmp_path)
        assert loaded.code == with_weights.code
    else:
        expected = losses(module, module)
        assert losses(loaded, loaded) == pytest.approx(expected, rel=1e-6)


class Scaled(nn.Module):
    """A layer with what `register` hangs on it."""

    def __init__(self, register):
        super().__init__()
        self.inner = nn.Linear(WIDTH, WIDTH)
        register(self)

    def forward(self, x):
        return self.inner(x)


def hooked_tensor(module, x, ids):
    x.register_hook(lambda gradient: 3 * gradient)
    return x


def with_hook(register):
    module = Small(lambda m, x, ids: m.scaled(x))
    module.scaled = Scaled(register)
    return module


def counted(module, x, ids):
    module.calls += 1
    return x if module.calls < 100 else 2 * x


def with_state(middle, **attributes):
    module = Small(middle)
    for name, value in attributes.items():
        (module.register_buffer if name == "n" else module.__setattr__)(name, value)
    return module


def counts_in_place(module, x, ids):
    module.n.add_(1)
    return x * module.n


def counts_by_replacing(module, x, ids):
    module.n = module.n + 1
    return x * module.n


def averages(module, x, ids):
    module.average = 0.9 * module.average + 0.1 * x.mean().detach()
    return x * module.average


CALLS = [0]


def counts_elsewhere(module, x, ids):
    CALLS[0] += 1
    return x * CALLS[0]


def created(module, x, ids):
    module.calls = getattr(module, "calls", 0) + 1
    return x if module.calls < 100 else 2 * x


def created_in_a_dictionary(module, x, ids):
    if not hasattr(module, "state"):
        module.state = {"calls": 0}
    module.state["calls"] += 1
    return x if module.state["calls"] < 100 else 2 * x


def created_in_a_list(module, x, ids):
    module.seen = [*getattr(module, "seen", []), None]
    return x if len(module.seen) < 100 else 2 * x


def counted_from_none(module, x, ids):
    module.calls = (module.calls or 0) + 1
    return x if module.calls < 100 else 2 * x


def iterated(module, x, ids):
    return x if next(module.iterator) < 100 else 2 * x


ITERATOR, PASSES = itertools.count(), 0


def iterated_globally(module, x, ids):
    return x if next(ITERATOR) < 1000 else 2 * x


def passes():
    global PASSES
    PASSES += 1
    return PASSES


def counts_globally(module, x, ids):
    return x if passes() < 1000 else 2 * x


def counts_in_a_closure():
    calls = 0

    def middle(module, x, ids):
        nonlocal calls
        calls += 1
        return x if calls < 1000 else 2 * x

    return Small(middle)


class Iterated(Small):
    def forward(self, input_ids, labels):
        loss = super().forward(input_ids, labels)
        return loss if next(ITERATOR) < 1000 else 2 * loss


def second_call(module, x, ids):
    first, module.seen = not module.seen, [1]
    return x if first else 2 * x


def changes_a_parameter(module, x, ids):
    module.linear.weight.data.mul_(0.5)
    return module.linear(x)


def normed(kind):
    module = Small(lambda m, x, ids: m.norm(x.transpose(1, 2)).transpose(1, 2))
    module.norm = kind(WIDTH)
    return module


def spectral():
    module = Small(lambda m, x, ids: m.spectral(x))
    module.spectral = torch.nn.utils.parametrizations.spectral_norm(nn.Linear(WIDTH, WIDTH))
    return module


def top_hook():
    module = Small()
    module.register_forward_hook(lambda module, inputs, output: output * 2)
    return module


class WithoutGradient(Small):
    @torch.no_grad()
    def forward(self, input_ids, labels):
        return super().forward(input_ids, labels)


HERE = r"\(test_export_state.py:\d+\)"
REFUSED = [
    (lambda: Small(hooked_tensor), rf"the top module {HERE} registers a hook"),
    (
        lambda: with_hook(lambda m: m.inner.weight.register_hook(lambda g: 3 * g)),
        rf"a backward hook of parameter scaled.inner.weight .*{HERE}",
    ),
    (
        lambda: with_hook(lambda m: m.inner.bias.register_post_accumulate_grad_hook(lambda p: None)),
        "a backward hook of parameter scaled.inner.bias",
    ),
    (
        lambda: with_hook(lambda m: m.inner.register_full_backward_hook(lambda *a: None)),
        "a backward hook of scaled.inner",
    ),
    (lambda: with_hook(lambda m: m.register_full_backward_pre_hook(lambda *a: None)), "a backward hook of scaled"),
    (top_hook, f"a forward hook of the top module .*{HERE}"),
    (lambda: with_state(counts_in_place, n=torch.zeros(1)), rf"{HERE} changes n in the forward pass"),
    (lambda: with_state(counts_by_replacing, n=torch.zeros(1)), rf"n is replaced in the forward pass, in .*{HERE}"),
    (lambda: with_state(averages, average=torch.zeros(())), rf"average is replaced in the forward pass, in .*{HERE}"),
    (lambda: with_state(counted, calls=0), rf"calls is another number after each forward pass, in .*{HERE}"),
    (lambda: Small(created), rf"calls is another number after each forward pass, in .*{HERE}"),
    (lambda: Small(created_in_a_dictionary), r"state\['calls'\] is another number after each forward pass, in "),
    (lambda: Small(created_in_a_list), r"seen \(its length\) is another number after each forward pass, in "),
    (lambda: with_state(counted_from_none, calls=None), rf"calls is another number after each .*, in .*{HERE}"),
    (lambda: with_state(iterated, iterator=itertools.count()), "iterator is another number after each forward pass"),
    (lambda: Small(iterated_globally), rf"ITERATOR of iterated_globally {HERE} is another number after each"),
    (lambda: Small(counts_globally), rf"PASSES of passes {HERE} is another number after each forward pass"),
    (counts_in_a_closure, rf"calls of \S*middle {HERE} is another number after each forward pass"),
    (lambda: Iterated(), rf"ITERATOR of Iterated.forward {HERE} is another number after each forward pass"),
    (lambda: Small(counts_elsewhere), rf"{HERE} computes something else each time it runs"),
    (lambda: with_state(second_call, seen=[]), "something else at its second call"),
    (lambda: Small(changes_a_parameter), rf"{HERE} changes linear.weight in the forward pass"),
    (lambda: normed(nn.BatchNorm1d), rf"norm {HERE} changes norm\.\w+ in the forward pass.*call eval\(\)"),
    (spectral, r"spectral\..* changes spectral.parametrizations.weight.0._u in the forward pass"),
    (lambda: Small(lambda m, x, ids: (x.grad_fn, x)[1]), rf"{HERE} uses gradients in the forward pass"),
    (
        lambda: Small(lambda m, x, ids: x * torch.autograd.grad(x.pow(2).sum(), x)[0]),
        rf"{HERE} uses gradients in the forward pass",
    ),
    (lambda: WithoutGradient(), "the loss of WithoutGradient has no gradient"),
]


@pytest.mark.parametrize("make,message", REFUSED)
def test_what_a_trace_does_not_hold(make, message, tmp_path):
    module = make()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(GalvatronError) as caught:
        save(module, tmp_path)
    assert re.search(message, str(caught.value)), caught.value
    assert list(tmp_path.iterdir()) == []
    for name, value in module.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_what_only_values_show(tmp_path):
    """A hook on a node of autograd's graph, put there from outside, is seen in the gradient."""
    module = Small()
    node = module.linear.weight.view_as(module.linear.weight).grad_fn.next_functions[0][0]
    node.register_prehook(lambda gradients: (3 * gradients[0],))
    module.middle = lambda m, x, ids: m.linear(x)
    with pytest.raises(GalvatronError, match="another gradient of linear.weight than the module"):
        save(module, tmp_path)


def dropped():
    module = Small(lambda m, x, ids: m.drop(m.linear(x)))
    module.drop = nn.Dropout(0.5)
    return module


def modes(module):
    return {name: m.training for name, m in module.named_modules()}


@pytest.mark.parametrize("training,drops", [((True, True), True), ((True, False), False), ((False, False), True)])
def test_modes(training, drops, tmp_path):
    """Of a module in training each submodule keeps its own; one in eval mode throughout is traced in training."""
    module = dropped()
    module.train(training[0])
    module.drop.train(training[1])
    before = modes(module)
    loaded = save(module, tmp_path)
    assert modes(module) == before
    graph = loaded.inlined_graph
    (node,) = graph.findAllNodes("aten::dropout")
    assert list(node.inputs())[2].toIValue() is drops
    if not drops:
        assert losses(loaded, loaded) == pytest.approx(losses(module, module), rel=1e-6)


def test_batch_norm_in_eval_mode(tmp_path):
    module = normed(nn.BatchNorm1d)
    module.norm.eval()
    save(module, tmp_path)


def test_forward_hooks_of_submodules_are_in_the_trace(tmp_path):
    module = Small(lambda m, x, ids: m.linear(x))
    module.linear.register_forward_hook(lambda module, inputs, output: output * 2)
    module.linear.register_forward_pre_hook(lambda module, inputs: (inputs[0] + 1,))
    loaded = save(module, tmp_path)
    assert losses(loaded, loaded) == pytest.approx(losses(module, module), rel=1e-6)


def test_state_written_before_it_is_read(tmp_path):
    def noted(module, x, ids):
        module.auxiliary = x.mean()
        module.length = ids.shape[1]
        return x + module.auxiliary

    module = with_state(noted, auxiliary=torch.zeros(()), length=0)
    loaded = save(module, tmp_path)
    assert module.length == 0 and not isinstance(module.length, torch.Tensor)
    assert losses(loaded, loaded) == pytest.approx(losses(module, module), rel=1e-6)


def test_numbers_created_in_the_forward_that_stay(tmp_path):
    def noted(module, x, ids):
        module.scale = 0.5
        if not hasattr(module, "widths"):
            module.widths = {"linear": WIDTH}
        return x * module.scale + module.widths["linear"]

    module = Small(noted)
    loaded = save(module, tmp_path)
    assert not hasattr(module, "scale") and not hasattr(module, "widths")
    assert losses(loaded, loaded) == pytest.approx(losses(module, module), rel=1e-6)


def test_a_cache_that_settles(tmp_path):
    def cached(module, x, ids):
        if module.table_of is None:
            module.table_of = torch.arange(128.0)[:, None] / 128
        return x + module.table_of[: ids.shape[1]]

    module = with_state(cached, table_of=None)
    loaded = save(module, tmp_path)
    assert losses(loaded, loaded) == pytest.approx(losses(module, module), rel=1e-6)


def test_exporting_leaves_no_trace(tmp_path):
    """Random numbers, grad mode of the caller, attributes."""
    module = dropped()
    attributes = {name: dict(m.__dict__) for name, m in module.named_modules()}
    state = torch.get_rng_state()
    with torch.no_grad():
        loaded = save(module, tmp_path)
    assert torch.equal(state, torch.get_rng_state())
    assert {name: dict(m.__dict__) for name, m in module.named_modules()} == attributes
    assert loaded(tokens(), tokens()).requires_grad
