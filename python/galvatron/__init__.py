"""galvatron: the PyTorch side of galvatron-opt.

`python -m galvatron.export`     a transformers config, or any module with a loss, to TorchScript
`python -m galvatron.reference`  trains the exported module in PyTorch; log and gradients to compare with
`python -m galvatron.compare`    judges gradients and losses against that reference
"""

__version__ = "0.1.0"
