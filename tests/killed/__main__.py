"""Part of `make soak`: an agent is killed at every single step, at both doors to the runtime."""

from __future__ import annotations

import argparse
import asyncio
import sys

from tests.killed import agents, every, ground, play


async def run(door: ground.Door, stride: int) -> int:
    """Die at every `stride`-th step; after how many of them something was wrong."""
    async with agents.running() as zygote:
        rehearsal = await play.rehearse(door, zygote)
        deaths = every.spread(rehearsal.steps, stride)
        wrong = await every.die(door, zygote, rehearsal, deaths)
    for text in wrong:
        print(text, file=sys.stderr)
    print(f"{door}: killed at {len(deaths)} of {len(rehearsal.steps)} steps, {len(wrong)} wrong", flush=True)
    return len(wrong)


def main() -> int:
    """Run them; 1 where anything is lost."""
    parser = argparse.ArgumentParser(prog="killed", description=__doc__)
    parser.add_argument("--door", choices=["nri", "cri"], action="append", help="default: both")
    parser.add_argument("--stride", type=int, default=1, help="take one step in so many (default: each)")
    chosen = parser.parse_args()
    wrong = [asyncio.run(run(door, chosen.stride)) for door in chosen.door or ["nri", "cri"]]
    return 1 if any(wrong) else 0


if __name__ == "__main__":
    sys.exit(main())
