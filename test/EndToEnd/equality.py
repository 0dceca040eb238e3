"""Training for twenty steps equals PyTorch: gradients of the first step, losses, gradient norms, rates.

Each error is recorded as a property of its test (--junitxml).
"""

from harness import STEPS, check, columns, first_gradients

from galvatron import compare

# The gradient norm starts at about 1.5, so that 1 clips; rates at which the loss falls by a third.
SGD = ("--optimizer", "sgd", "--lr", "0.2", "--clip-grad", "1")
PLAIN = ("--optimizer", "sgd", "--lr", "0.03")
ADAMW = ("--optimizer", "adamw", "--lr", "3e-3", "--lr-schedule", "cosine", "--warmup", "3", "--min-lr", "1e-4")
ADAMW += ("--weight-decay", "0.1")
# fp32 sums in another order; AdamW divides by a root of a moment that may itself be rounding.
TOLERANCE = {SGD: 1e-4, PLAIN: 1e-4, ADAMW: 5e-4}


def equals_pytorch(compiled, tokens, expected, options, norms: float, record_property):
    """`norms`: tolerance of the gradient norms' column."""
    folder = compiled.folder.with_name(f"{compiled.folder.name}-{'-'.join(options[1::2])}")
    gradients = () if options is ADAMW else ("--dump-gradients", folder / "gradients")
    run = compiled.train(folder, "--steps", STEPS, "--data", tokens, *gradients, *options)
    worst = {}
    if gradients:
        worst["gradient"] = check(first_gradients(run, expected)) * compare.GRADIENT_TOLERANCE
    for column, tolerance in (("loss", TOLERANCE[options]), ("grad_norm", norms), ("lr", 1e-6)):
        worst[column] = check(columns(run, expected, **{column: tolerance})) * tolerance
    for name, value in worst.items():
        record_property(f"{name} error", f"{value:.2e}")
    assert run.column("loss")[-1] < run.column("loss")[0] - 0.1
