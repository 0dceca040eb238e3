"""Writes a profile of eight ranks and a model, by formulas: what no machine that runs tests has.

python eight.py <profile.json> [batches]      batches: so many numbers of samples (8); 3 lengths
"""

import json
import sys

MB = 1 << 20
HASHES = {"embedding": "e0", "decoder": "d0", "head": "f0"}


def collectives():
    for kind, factor in (("all_reduce", 2), ("all_to_all", 1)):
        for ranks in (2, 4, 8):
            for stride in (1, 8 // ranks) if ranks < 8 else (1,):
                for size in range(11):
                    traffic = factor * (ranks - 1) / ranks * (MB << size)
                    yield entry(kind, ranks, stride, 8 // ranks, MB << size, 2e-5 + traffic / 100e9)
    for stride in (1, 2, 4):
        yield entry("send", 2, stride, 4, 32 * MB, 32 * MB / 50e9)


def entry(kind, ranks, stride, groups, size, seconds):
    figures = {"seconds": seconds, "spread": 0, "repeats": 5}
    return {"kind": kind, "ranks": ranks, "stride": stride, "groups": groups, "bytes": size} | figures


def device(rank):
    shares = {"gemm_share": 1, "copy_share": 1}
    return {"rank": rank, "host": "a", "device": rank, "clock_mhz": 1980, "power_watts": 700, "celsius": 40} | shares


def body(layer_type, samples, seq):
    forward = samples * (seq * 1e-6 + seq * seq * 1e-10) * {"embedding": 0.01, "decoder": 1, "head": 0.5}[layer_type]
    seconds = {"forward": forward, "backward": 2 * forward, "weight": 0, "recompute": forward, "update": 1e-4}
    head = {"layer_type": layer_type, "hash": HASHES[layer_type], "precision": "bf16", "strategy": {"tp": 1}}
    return (
        head
        | {"samples": samples, "seq": seq}
        | {f"{key}_seconds": value for key, value in seconds.items()}
        | {"state_bytes": 1, "saved_bytes": 1, "scratch_bytes": 1, "measured": True}
    )


def planned(layer_type, tp, sequence_parallel, recompute, seq):
    strategy = {"tp": tp, "sequence_parallel": sequence_parallel, "recompute": recompute}
    parameters = {"embedding": 128, "decoder": 200, "head": 128}[layer_type] * MB // tp
    saved = seq * (8 << 10) if recompute else seq * (64 << 10) // tp
    head = {"layer_type": layer_type, "hash": HASHES[layer_type], "precision": "bf16", "strategy": strategy}
    sizes = {"parameter": parameters, "shared": 0, "state": parameters * 4, "saved": saved, "scratch": 1}
    return head | {"samples": 1, "seq": seq} | {f"{key}_bytes": value for key, value in sizes.items()}


def main():
    batches = int(sys.argv[2]) if len(sys.argv) > 2 else 8
    lengths = (1024, 2048, 4096)
    types = list(HASHES)
    sizes = [(b, 1024) for b in range(1, batches + 1)] + [(1, s) for s in lengths[1:]]
    ways = [(1, False, False), (1, False, True)] + [(tp, sp, False) for tp in (2, 4, 8) for sp in (False, True)]
    link = {"GB_per_s": 100, "us": 5}
    units = [("model.embed", "embedding", "embedding")] + [(f"h.{i}", "decoder", "layer") for i in range(8)]
    units += [("head", "head", "head")]
    profile = {
        "format": "galvatron-profile",
        "version": 1,
        "created": "2026-01-31T12:00:00Z",
        "precision": "bf16",
        "fingerprint": {"target": "cuda"},
        "cluster": {"nodes": 1, "devices_per_node": 8, "device": "h200", "links": {"intra": link, "inter": link}},
        "devices": [device(rank) for rank in range(8)],
        "stragglers": [],
        "collectives": list(collectives()),
        "kernels": [],
        "overlap": [{"first": "gemm", "second": "all_reduce", "bytes": MB, "first_slowdown": 1.1, "second_slowdown": 1.2}],
        "layers": [body(t, b, s) for t in types for b, s in sizes],
        "planned": [planned(t, *way, s) for t in types for s in lengths for way in ways],
        "models": [
            {
                "name": "small",
                "hash": "01",
                "seq": 1024,
                "units": [{"path": p, "layer_type": t, "role": r, "hash": HASHES[t]} for p, t, r in units],
            }
        ],
    }
    json.dump(profile, open(sys.argv[1], "w"))


if __name__ == "__main__":
    main()
