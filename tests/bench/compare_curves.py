#!/usr/bin/env python3
"""Compares the losses of two runs step by step: hew's metrics.jsonl and the PyTorch twin's lines.

Prints the largest relative difference over the steps that hew logged. The status is 1 where it is
above the limit, or where a logged step is missing from the twin or not finite.
"""

import argparse
import json
import math
import pathlib
import sys


def losses(path: pathlib.Path) -> dict[int, float]:
    """Training losses by step; of a step that was logged twice, as after a resume, the last."""
    found = {}
    for line in path.read_text().splitlines():
        record = json.loads(line)
        if record.get("kind", "train") == "train":
            found[int(record["step"])] = float(record["loss"])
    return found


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("hew", type=pathlib.Path, help="metrics.jsonl of the run")
    parser.add_argument("twin", type=pathlib.Path, help="output of curve_torch.py")
    parser.add_argument("--limit", type=float, default=0.005, help="relative (default %(default)s)")
    parser.add_argument("--steps", type=int, default=1, help="fewest steps to compare")
    parser.add_argument("--verbose", action="store_true", help="a line for each step")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    ours, theirs = losses(arguments.hew), losses(arguments.twin)
    if len(ours) < arguments.steps:
        print(f"{arguments.hew}: {len(ours)} logged steps, expected {arguments.steps}")
        return 1
    worst, worst_step = 0.0, 0
    for step, loss in sorted(ours.items()):
        if step not in theirs:
            print(f"{arguments.twin}: no step {step}")
            return 1
        difference = abs(loss - theirs[step]) / abs(theirs[step])
        if arguments.verbose:
            print(f"step {step}: {loss:.6f} and {theirs[step]:.6f}, {100 * difference:.4f} %")
        if not math.isfinite(difference):
            print(f"step {step}: {loss} and {theirs[step]}")
            return 1
        if difference >= worst:
            worst, worst_step = difference, step
    good = worst <= arguments.limit
    print(
        f"{len(ours)} steps: largest difference {100 * worst:.4f} % at step {worst_step} "
        f"({ours[worst_step]:.5f} and {theirs[worst_step]:.5f}), "
        f"{'within' if good else 'ABOVE'} {100 * arguments.limit:g} %"
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
