"""Products by PyTorch on one thread, with the arguments and the output of onednn_products.c."""

import statistics
import sys
import time

import torch

POOL = 32 << 20  # elements of 4 bytes


def main() -> int:
    torch.set_num_threads(1)
    operands = torch.full((POOL,), 0.01)
    begin, window = float(sys.argv[1]), float(sys.argv[2])
    for index, word in enumerate(sys.argv[3:]):
        layout, *extents = word.split(":")
        m, n, k = map(int, extents)
        samples, slot, size = [], 0, m * k + n * k
        start = begin + index * window
        time.sleep(max(0.0, start - time.time()))
        while time.time() < start + 0.9 * window or len(samples) < 3:
            at = slot % (POOL // size) * size
            a, b = operands[at : at + m * k], operands[at + m * k : at + size]
            a = a.view(k, m).t() if layout[0] == "t" else a.view(m, k)
            b = b.view(n, k).t() if layout[1] == "t" else b.view(k, n)
            before = time.perf_counter()
            torch.mm(a, b)
            samples.append(time.perf_counter() - before)
            slot += 1
        print(word, statistics.median(samples))
    return 0


if __name__ == "__main__":
    sys.exit(main())
