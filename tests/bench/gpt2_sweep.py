#!/usr/bin/env python3
"""Finds the best options of gpt2_torch.py for a size: the opponent plays at its own best.

Every attention backend with every dtype of the residual stream, compiled by default; then the
fastest of them with max-autotune. Each is a process of its own and prints its JSON line, one that
fails a line on standard error; the last line repeats the fastest, with "best": true.
"""

import argparse
import itertools
import json
import pathlib
import subprocess
import sys

PROGRAM = pathlib.Path(__file__).with_name("gpt2_torch.py")


def run(options: list[str], limit: float) -> dict[str, object] | None:
    """The line that gpt2_torch.py printed with these options; None where it failed."""
    name = " ".join(options)
    try:
        done = subprocess.run(
            [sys.executable, str(PROGRAM), *options],
            capture_output=True,
            text=True,
            timeout=limit,
            check=True,
        )
    except subprocess.TimeoutExpired:
        print(f"gpt2_sweep: {name}: out of time after {limit:g} s", file=sys.stderr)
        return None
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["no word why"])[-1]
        print(f"gpt2_sweep: {name}: {last}", file=sys.stderr)
        return None
    line = done.stdout.strip().splitlines()[-1]
    print(line, flush=True)
    return json.loads(line)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=("124m", "774m", "1558m"), default="124m")
    parser.add_argument("--attention", nargs="+", default=["flash", "cudnn"])
    parser.add_argument("--residual", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--steps", default="30")
    parser.add_argument("--limit", type=float, default=400, help="seconds for one of them")
    parser.add_argument("--no-autotune", action="store_true", help="leave out max-autotune")
    arguments = parser.parse_args()
    common = ["--size", arguments.size, "--steps", arguments.steps]
    found = []
    for attention, residual in itertools.product(arguments.attention, arguments.residual):
        options = [*common, "--attention", attention, "--residual", residual]
        if (record := run(options, arguments.limit)) is not None:
            found.append((record, options))

    def speed(pair: tuple[dict, list[str]]) -> float:
        return pair[0]["tokens_per_second"]

    if found and not arguments.no_autotune:
        options = [*max(found, key=speed)[1], "--compile-mode", "max-autotune-no-cudagraphs"]
        if (record := run(options, arguments.limit)) is not None:
            found.append((record, options))
    if not found:
        return 1
    print(json.dumps({**max(found, key=speed)[0], "best": True}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
