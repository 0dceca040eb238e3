"""What the tests of stage binaries share: a folder, the environment that mpirun needs, and safetensors in plain Python."""

import array
import json
import math
import os
import shutil
import struct
import tempfile
import unittest

ENVIRONMENT = dict(
    os.environ,
    OMPI_ALLOW_RUN_AS_ROOT="1",
    OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
    OMPI_MCA_rmaps_base_oversubscribe="1",
    OMPI_MCA_mpi_yield_when_idle="1",
    OMPI_MCA_hwloc_base_binding_policy="none",
)


class FolderFixture(unittest.TestCase):
    """A folder of a class's own, gone when its tests have run."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp()

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    @classmethod
    def path(cls, name):
        return os.path.join(cls.folder, name)


def write_tensors(path, tensors):
    header, data = {}, b""
    for name, (shape, values) in tensors.items():
        raw = array.array("f", values).tobytes()
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


def read_tensors(path):
    with open(path, "rb") as file:
        raw = file.read()
    (size,) = struct.unpack("<Q", raw[:8])
    tensors = {}
    for name, entry in json.loads(raw[8 : 8 + size]).items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            tensors[name] = (entry["shape"], list(array.array("f", raw[8 + size + begin : 8 + size + end])))
    return tensors


def adamw(state, gradients, step, lr, decay, clip, decays):
    """One step of torch's AdamW with clipping on state.weights, .first and .second, lists by name; returns the gradient
    norm. Only weights of a name that `decays` decay; a clip of 0 is off."""
    norm = math.sqrt(sum(g * g for values in gradients.values() for g in values))
    scale = min(1.0, clip / (norm + 1e-6)) if clip else 1.0
    for name, values in state.weights.items():
        shrink = 1 - lr * (decay if decays(name) else 0)
        for i, g in enumerate(gradients[name]):
            g *= scale
            m = state.first[name][i] = 0.9 * state.first[name][i] + 0.1 * g
            v = state.second[name][i] = 0.999 * state.second[name][i] + 0.001 * g * g
            update = (m / (1 - 0.9**step)) / (math.sqrt(v / (1 - 0.999**step)) + 1e-8)
            values[i] = values[i] * shrink - lr * update
    return norm
