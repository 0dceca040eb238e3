"""Traces a module, and shows on other examples what the trace is good for.

One example's trace may hold its batch, its length, its tokens, or that it was the first call. So the module
is traced again with other tokens in another batch of another length, and the two programs are compared:

    the same                  the trace holds for all sizes, within its checks (see galvatron/watching.py)
    another for other sizes   the import is bound to the example's
    another for other tokens, or at each call     refused

Where a forward takes no other size it is bound to that size as well.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import nn

from galvatron import comparison, draws, places, states, tracing
from galvatron.comparison import Trace
from galvatron.errors import GalvatronError, first_line

# Up to here loss and gradients of module and trace are computed and compared.
COMPARED_PARAMETERS = 4_000_000


@dataclasses.dataclass(frozen=True)
class Dimension:
    """A size of the example: `places` are the inputs, and their dimensions, that have it."""

    name: str  # "batch", "seq", or of one input, as pixel_values[2]
    value: int
    places: tuple[tuple[str, int], ...]

    def sizes(self) -> list[int]:
        """Others to try. Primes show most; some modules take only multiples or shorter rows."""
        if self.name == "batch":
            return [_prime(self.value, 1), 2 * self.value]
        tried = [_prime(self.value, -1), _prime(self.value, 1), 2 * self.value, self.value // 2]
        return [size for size in tried if size >= min(2, self.value)]  # a shift leaves nothing of one token


def dimensions(inputs: Mapping[str, torch.Tensor]) -> list[Dimension]:
    """The batch is every input's first; `seq` the length of integers [batch, seq], as input_ids have it where they are
    among several; every other size is one of its own."""
    first = inputs.get("input_ids")
    length = int(first.shape[1]) if first is not None and first.dim() == 2 else 0
    groups: dict[str, tuple[int, list[tuple[str, int]]]] = {}
    for name, tensor in inputs.items():
        for dim, extent in enumerate(tensor.shape):
            is_length = dim == 1 and tensor.dim() == 2 and tensor.dtype == torch.int64 and extent == length
            kind = "batch" if dim == 0 else "seq" if is_length else f"{name}[{dim}]"
            groups.setdefault(kind, (int(extent), []))[1].append((name, dim))
    return [Dimension(name, value, tuple(places)) for name, (value, places) in groups.items()]


@dataclasses.dataclass(frozen=True)
class Bound:
    """Why an import must have the example's size; `reason` is said of `place`."""

    dimension: str  # a `Dimension`'s name
    value: int
    place: str
    reason: str

    def to_json(self) -> dict:
        return dataclasses.asdict(self)

    def described(self) -> str:
        option = f"--{self.dimension} " if self.dimension in ("batch", "seq") else f"{self.dimension} = "
        return f"{option}{self.value}"


@dataclasses.dataclass
class Result:
    trace: torch.jit.ScriptModule
    checked: list[places.Place]  # by the trace itself, in order
    bounds: list[Bound]

    def told(self) -> list[str]:
        """What the user's own lines do that restricts the import."""
        lines = [
            f"{place} computes in Python with the sizes: an import where it would compute otherwise is refused"
            for place in dict.fromkeys(self.checked)
            if place.is_users()
        ]
        return lines + [f"an import takes {b.described()} only: {b.place} {b.reason}" for b in self.bounds]


class Examination:
    def __init__(self, module: nn.Module, inputs: Mapping[str, torch.Tensor], weightless: bool) -> None:
        self.module = module
        self.inputs = dict(inputs)
        self.dimensions = dimensions(inputs)
        self.weightless = weightless
        self.generator = torch.Generator().manual_seed(0)
        self.names = {id(m): name for name, m in module.named_modules()}

    def run(self) -> Result:
        states.refuse_hooks(self.module)
        with states.kept(self.module):
            states.set_modes(self.module)
            before = states.Snapshot.of(self.module)
            with draws.refused(lambda: self._loss()(*self.inputs.values()), self.names):
                self.first = self._trace(self.inputs)
            after = states.Snapshot.of(self.module)
            self._refuse_changes(before, after)
            self._vocabulary = self.first.watch.vocabulary
            settled = not before.replaced(after) and before.numbers == after.numbers
            self.relaxed = self._idle()
            agreeing = self._agreeing(self.dimensions)
        if agreeing is None or not settled:
            self._check_repetition()
        bounds = []
        if agreeing is None:
            self._check_other_tokens()
            bounds = [bound for dimension in self.dimensions if (bound := self._bound(dimension))]
        trace = agreeing or self.first
        if agreeing is None and self.relaxed:
            trace = self._fresh(self.inputs, relaxed=self.relaxed)
        self._check_values(trace)
        return Result(trace.module, [check.place for check in trace.watch.checks], bounds)

    def _loss(self) -> Callable[..., torch.Tensor]:
        return tracing.loss_function(self.module, tuple(self.inputs))

    def _trace(self, inputs: Mapping[str, torch.Tensor], **options: object) -> Trace:
        return Trace.of(*tracing.trace(self.module, inputs, self.weightless, **options))

    def _fresh(self, inputs: Mapping[str, torch.Tensor], **options: object) -> Trace:
        """A trace that leaves the module's state as it is."""
        with states.kept(self.module):
            states.set_modes(self.module)
            return self._trace(inputs, **options)

    def _refuse_changes(self, before: states.Snapshot, after: states.Snapshot) -> None:
        if not self.first.watch.has_gradient and any(p.requires_grad for p in self.module.parameters()):
            raise GalvatronError(
                f"the loss of {type(self.module).__name__} has no gradient: its forward runs without grad mode,"
                " detaches everything, or reads no parameter but frozen ones"
            )
        parameters = {name for name, _ in self.module.named_parameters(remove_duplicate=False)}
        for name in before.replaced(after):
            if name in parameters or name in self.first.watch.read:
                raise GalvatronError(
                    f"{name} is replaced in the forward pass{self._line_of(name)}, which a compiled step does not do;"
                    " make it a constant, or compute it outside"
                )

    def _line_of(self, attribute: str) -> str:
        place = self.first.watch.assigned.get(re.split(r"[\[ ]", attribute)[0])  # of its numbers, too
        return f", in {place}" if place else ""

    def _agreeing(self, dimensions: Sequence[Dimension]) -> Trace | None:
        """The same program, traced on inputs of other tokens and other sizes in `dimensions`; None if all are
        others. Sets `self.disagreement`, the reason."""
        self.disagreement: tuple[places.Place, str] | None = None
        for inputs in self._others(dimensions):
            try:
                trace = self._trace(inputs, relaxed=self.relaxed)
            except Exception as error:  # the module's own
                place = places.of_traceback(error, self.names)
                self.disagreement = self.disagreement or (place, f"takes no other size ({first_line(error)})")
                continue
            if trace.checks() != self.first.checks():
                taken = zip(self.first.checks(), trace.checks())
                place = next((a[0] for a, b in taken if a != b), places.Place("", "", 0))
                self.disagreement = self.disagreement or (place, "computes in Python with it")
                continue
            place = comparison.difference(self.first, trace)
            if place is None:
                return trace
            self.disagreement = (place, "holds a number computed from it")
            return None
        return None

    def _others(self, varied: Sequence[Dimension]) -> Iterator[dict[str, torch.Tensor]]:
        """Examples of other sizes in these dimensions."""
        sizes = {dimension: dimension.sizes() for dimension in varied}
        for i in range(max(len(tried) for tried in sizes.values())):
            yield self._drawn({dimension: tried[min(i, len(tried) - 1)] for dimension, tried in sizes.items() if tried})

    def _drawn(self, sizes: Mapping[Dimension, int]) -> dict[str, torch.Tensor]:
        """Other data, of these sizes and else the example's: tokens that the module knows, positions of rows of two
        documents, elements of the example's other inputs."""
        shapes = {name: list(tensor.shape) for name, tensor in self.inputs.items()}
        for dimension, size in sizes.items():
            for name, dim in dimension.places:
                shapes[name][dim] = size
        drawn: dict[str, torch.Tensor] = {}
        for name, tensor in self.inputs.items():
            same = next((n for n in drawn if torch.equal(self.inputs[n], tensor)), None)
            if same and shapes[name] == shapes[same]:
                drawn[name] = drawn[same].clone()
            elif tracing.are_tokens(tuple(self.inputs)) and name == "input_ids":
                known = self._vocabulary or int(tensor.max()) + 1
                drawn[name] = torch.randint(0, known, shapes[name], generator=self.generator)
            elif name == "position_ids":
                rows, tokens = shapes[name]
                drawn[name] = (torch.arange(tokens) % (tokens // 2 + 1)).expand(rows, tokens).contiguous()
            else:
                chosen = torch.randint(0, tensor.numel(), shapes[name], generator=self.generator)
                drawn[name] = tensor.flatten()[chosen]
        return drawn

    def _check_repetition(self) -> None:
        """The second call must compute what the first does."""
        with states.kept(self.module):
            states.set_modes(self.module)
            again = self._trace(self.inputs)
            if not self._same(again):
                if self.weightless or not self._has_one_loss():
                    self._refuse_difference(again, "computes something else each time it runs, or keeps what it computed")
                self.first = again  # with what some cache holds by now
            after = states.Snapshot.of(self.module)
            second = self._trace(self.inputs)
            for name in after.renumbered(states.Snapshot.of(self.module)):
                raise GalvatronError(
                    f"{name} is another number after each forward pass{self._line_of(name)}, which a compiled step does"
                    " not count; remove it, or leave it out where torch.jit.is_tracing()"
                )
            if self._same(second):
                return
        if self.weightless or not self._has_one_loss():
            self._refuse_difference(second, "computes something else at its second call than at its first")

    def _same(self, trace: Trace) -> bool:
        return trace.checks() == self.first.checks() and comparison.difference(self.first, trace) is None

    def _refuse_difference(self, trace: Trace, what: str) -> None:
        pairs = zip(self.first.checks(), trace.checks())
        place = next((a[0] for a, b in pairs if a != b), None) or comparison.difference(self.first, trace)
        if place is not None or len(trace.checks()) != len(self.first.checks()):
            raise GalvatronError(
                f"{place or 'the forward pass'} {what}, so that no trace is its program; make it the same at each call"
            )

    def _has_one_loss(self) -> bool:
        with states.kept(self.module), torch.no_grad(), torch.random.fork_rng(devices=[]):
            states.set_modes(self.module)
            compute = self._loss()
            losses = []
            for _ in range(2):
                torch.manual_seed(0)
                losses.append(compute(*self.inputs.values()))
        return torch.allclose(losses[0], losses[1], rtol=1e-6, equal_nan=True)

    def _check_other_tokens(self) -> None:
        self._refuse_difference(self._fresh(self._drawn({})), "computes something else for other tokens of the same sizes")

    def _idle(self) -> list[int]:
        """Numbers of the checks that fail for a batch of one sample and may: the module does the same with data
        where their values are forced to be the example's. Broadcasting is often spelt so: expand unless 1 == 1."""
        batch = self.dimensions[0]
        if not self.first.checks() or batch.value == 1:
            return []
        inputs = self._drawn({batch: 1})
        try:
            natural = self._fresh(inputs, forced=[])
            if natural.checks() == self.first.checks():
                return []
            forced = self._fresh(inputs, forced=[value for _, value in self.first.checks()])
        except Exception:  # the module takes no such batch, or not in this way
            return []
        alike = forced.watch.transcript.calls == natural.watch.transcript.calls
        return forced.watch.overruled if alike and self._same(forced) else []

    def _bound(self, dimension: Dimension) -> Bound | None:
        with states.kept(self.module):
            states.set_modes(self.module)
            if self._agreeing([dimension]) is not None:
                return None
        place, reason = self.disagreement or (places.Place("", "", 0), "was tried at no other size")
        return Bound(dimension.name, dimension.value, str(place), reason)

    def _check_values(self, trace: Trace) -> None:
        """Loss and gradients of the example, where there are weights and they are few."""
        parameters = list(self.module.parameters())
        count = sum(p.numel() for p in parameters)
        if self.weightless or count > COMPARED_PARAMETERS or not any(p.requires_grad for p in parameters):
            return
        with states.kept(self.module):
            states.set_modes(self.module)
            comparison.check_equal(trace.module, self.module, self._loss(), tuple(self.inputs.values()))


def _prime(number: int, step: int) -> int:
    """The next prime above (step 1) or below (step -1) a number; below 2 there is none, which gives 0."""
    number += step
    while number > 1 and any(number % divisor == 0 for divisor in range(2, int(number**0.5) + 1)):
        number += step
    return max(number, 0)
