"""Which figures of each layer type of a profile are there, under all strategies alike.

python layers.py <profile.json>
"""

import json
import sys


def main():
    profile = json.load(open(sys.argv[1]))
    assert [model["name"] for model in profile["models"]] == ["llama"], profile["models"]
    by_type = {}
    for layer in profile["layers"]:
        assert "dp" not in layer["strategy"] and layer["measured"] and layer["weight_seconds"] == 0, layer
        assert all(layer[f"{way}_work"]["kernels"] for way in ("forward", "backward")), layer
        by_type.setdefault(layer["layer_type"], []).append(layer)
    for name, layers in sorted(by_type.items()):
        assert len({layer["hash"] for layer in layers}) == 1, name
        measured = [key for key in ("forward", "backward", "update") if all(e[f"{key}_seconds"] > 0 for e in layers)]
        planned = [key for key in ("state", "saved", "scratch") if all(e[f"{key}_bytes"] > 0 for e in layers)]
        print(f"{name}: {', '.join(measured)} measured; {', '.join(planned)} planned")


if __name__ == "__main__":
    main()
