"""Python side of galvatron-opt: export of PyTorch modules."""
