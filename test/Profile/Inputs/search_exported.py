"""Searches exported files in every mode of the reference under both cost models.

python search_exported.py <folder that was exported>
"""

import json
import subprocess
import sys
import tempfile

MODES = {
    "static": {"time_profile_mode": "static", "memory_profile_mode": "static"},
    "batch": {"time_profile_mode": "batch", "memory_profile_mode": "static"},
    "sequence": {"time_profile_mode": "sequence", "memory_profile_mode": "sequence"},
}


def main():
    for mode, modes in MODES.items():
        for cost_model in ("galvatron", "native"):
            case = {
                "model": {"name": "small", "hidden_size": 1024, "num_layers": 8, "seq_length": 1024},
                "profiles": "configs",
                "hardware": "hardware_configs",
                "parallelism_info": {"default_dp_type": "zero2", "mixed_precision": "bf16"},
                "common_train_info": {"sequence_parallel": True},
                "hardware_info": {"num_nodes": 1, "num_gpus_per_node": 8, "memory_constraint": 24},
                "batch_size_info": {"settle_bsz": 16},
                "profiling_info": modes,
            }
            if mode == "sequence":
                case["model"]["seq_length"] = 8192  # beyond what was profiled
            with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
                json.dump(case, file)
                file.flush()
                command = ["galvatron-search", "--config", file.name, "--root", sys.argv[1], "--quiet"]
                run = subprocess.run([*command, f"--cost-model={cost_model}"], capture_output=True, text=True)
            if run.returncode == 0:
                assert json.loads(run.stdout)["status"], run.stdout
            print(mode, cost_model, "plan" if run.returncode == 0 else run.stderr.strip())


if __name__ == "__main__":
    main()
