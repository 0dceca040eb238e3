"""galvatron-opt --list-plans where so many plans are near the best that they cannot all be listed."""

from __future__ import annotations

import json
import sys

from harness import succeed

CONFIG = {"model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "vocab_size": 256}
CONFIG |= {"num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 32, "tie_word_embeddings": False}


def test_plans_of_layers_alike_follow(tmp_path):
    config, archive, program = (tmp_path / f"model.{suffix}" for suffix in ("json", "pt", "mlir"))
    config.write_text(json.dumps(CONFIG))
    succeed(sys.executable, "-m", "galvatron.export", "--config", config, "--weightless", "-o", archive)
    succeed("galvatron-import", archive, "--batch", 12, "--seq", 32, "-o", program)
    options = ("--search", "--list-plans=5", "--ranks=4", "--memory=8GiB")
    told = succeed("galvatron-opt", *options, program, "-o", tmp_path / "out").stdout
    plans = [json.loads(path.read_text()) for path in sorted((tmp_path / "out" / "plans").iterdir())]
    seconds = [plan["predicted_step_seconds"] for plan in plans]
    assert len(plans) == 5 and seconds == sorted(seconds)
    assert "there are too many plans to look at all: of those beyond the best ones, plans of one stage whose" in told
    for plan in plans[1:]:
        blocks = [unit["strategy"] for unit in plan["units"][1:-1]]
        assert plan["pipeline"] == 1 and all(strategy == blocks[0] for strategy in blocks)
