"""Other people's modules, for modules.py: the tests' own, where those look at them on this processor alone.

Imported only where programs are built: it needs PyTorch and test/.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn

TREE = Path(__file__).resolve().parents[2]
RANDOM = TREE / "test" / "Random"
for folder in (TREE / "test" / "EndToEnd", TREE / "test" / "Inputs" / "models", RANDOM):
    sys.path.append(str(folder))

import named_models  # noqa: E402
import operators  # noqa: E402
import test_frozen  # noqa: E402
import test_losses  # noqa: E402
import test_wiring  # noqa: E402

# Text in which every step has labels, and the file whose second step has none.
TEXT, NO_LABEL = "text", "no-label"
# So many operators stand in one module, in layers of eight.
OPERATORS, OPERATORS_OF_A_LAYER = 24, 8
# Operators that read one sample for all need the whole batch at once.
ONE_SAMPLE = "ids[0"
SEEDS = range(15)


@dataclasses.dataclass(frozen=True)
class Case:
    """`make` draws from PyTorch's generator. `judged_steps`: gradients of so many steps are judged; of the first alone where
    a later tie or kink would be one of rounding. `whole_batch`: no plan can divide it. `drawn`: at random, so that it may be
    refused by the compiler for every device, and then is passed over; and gradients may be differences of large terms.
    `samples` makes all samples of inputs by name, of which the example is a batch; without it a case reads tokens."""

    name: str
    make: Callable[[], nn.Module]
    vocabulary: int = 256
    seq: int = 16
    data: str = TEXT
    judged_steps: int = 3
    whole_batch: bool = False
    drawn: bool = False
    samples: Callable[[], dict[str, torch.Tensor]] | None = None
    precision: str = "fp32"


def losses() -> Iterator[Case]:
    for loss in (*test_losses.RUN, *test_losses.EVALUATE):
        yield Case(f"loss-{loss.__name__}", lambda loss=loss: test_losses.Decoder(loss))
    # Counts of labels are shared by ranks and micro-batches: of the second batch there are none, and nothing is updated.
    yield Case("loss-no-label", lambda: test_losses.Decoder(test_losses.ignored), data=NO_LABEL)


def wirings() -> Iterator[Case]:
    for name, make in test_wiring.MODULES.items():
        yield Case(f"wiring-{name}", make)


def frozen_modules() -> Iterator[Case]:
    for name in test_frozen.FROZEN:
        yield Case(f"frozen-{name}", lambda name=name: test_frozen.frozen_module(name))
    yield Case("frozen-state", test_frozen.Stateful)


def named_inputs() -> Iterator[Case]:
    """In bf16 against the CPU's program of the same roundings: gradients of the first step, before weights differ."""
    for name, model in named_models.ZOO.items():
        case = Case(f"named-{name}", model.build, samples=model.data)
        yield case
        yield dataclasses.replace(case, name=f"{case.name}-bf16", precision="bf16", judged_steps=1)


def cut(texts: list, size: int) -> list[list]:
    return [texts[first : first + size] for first in range(0, len(texts), size)]


def operator_groups() -> Iterator[Case]:
    for group, texts in operators.EXPRESSIONS.items():
        whole = [text for text in texts if ONE_SAMPLE in text]
        divisible = [text for text in texts if ONE_SAMPLE not in text]
        yield from operator_modules(group, divisible, whole_batch=False)
        yield from operator_modules(f"{group}-of-a-sample", whole, whole_batch=True)


def operator_modules(group: str, texts: list[str], whole_batch: bool) -> Iterator[Case]:
    for number, several in enumerate(cut(texts, OPERATORS)):
        layers = cut(several, OPERATORS_OF_A_LAYER)
        make = lambda layers=layers: operators.Operators(layers)  # noqa: E731
        name = f"operators-{group}-{number}"
        yield Case(name, make, vocabulary=64, judged_steps=1, whole_batch=whole_batch)


def random_modules() -> Iterator[Case]:
    spec = importlib.util.spec_from_file_location("random_modules", RANDOM / "modules.py")
    library = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = library
    spec.loader.exec_module(library)
    for seed in SEEDS:

        def make(seed=seed):
            module = library.RandomModule(library.Draw(seed), frozenset(library.GROUPS))
            for parameter in module.parameters():
                if parameter.dim() < 2:  # ones and zeros hide what is forgotten
                    parameter.data += 0.2 * torch.randn_like(parameter)
            return module

        sizes = make().sizes
        yield Case(f"random-{seed}", make, sizes.vocabulary, sizes.seq, drawn=True)


# Whoever has modules to add adds a function.
SOURCES = [named_inputs, losses, wirings, frozen_modules, operator_groups, random_modules]


def cases() -> Iterator[Case]:
    for source in SOURCES:
        yield from source()
