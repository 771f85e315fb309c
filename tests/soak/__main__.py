"""`make soak`: many more sequences than a test run has, in parts of 1000 with a seed each."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from concurrent import futures

from tests.soak import machine

PART = 1000
"""Sequences that one process runs at a time: what Hypothesis remembers of them stays small."""


def main() -> int:
    """Run them; 1 where one fails, after the shortest sequence that does."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument(
        "--sequences", type=int, default=50_000, help="how many at least (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="the first part's; others count on from it")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (default: one a CPU)")
    chosen = parser.parse_args()
    seeds = range(chosen.seed, chosen.seed + -(-chosen.sequences // PART))
    reached: Counter[str] = Counter()
    with futures.ProcessPoolExecutor(chosen.jobs) as pool:
        parts = {pool.submit(machine.run, PART, seed): seed for seed in seeds}
        for part in futures.as_completed(parts):
            if error := part.exception():
                pool.shutdown(wait=False, cancel_futures=True)
                print(f"failed with --seed {parts[part]} --sequences {PART}", file=sys.stderr)
                raise error
            reached += part.result()
            print(f"{reached['sequences']} sequences, {reached['writes']} writes", flush=True)
    for what, count in sorted(reached.items()):
        print(f"{count:10} {what}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
