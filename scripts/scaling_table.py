#!/usr/bin/env python3
"""Makes the Markdown page of scripts/bench_scaling.sh from its folder, to standard output.

An item that failed or was not run says so; nothing is left out.
"""

import argparse
import json
import pathlib
import shlex
import sys

NOTHING = "–"
PARTS = {"weak": "weak", "shard": "weak, ZeRO-1", "strong": "strong"}
DENSE, SPARSE = "gpt2-1558m-cuda", "gpt2-xl-sparse90"
# Speed-ups over one rank that are asked for.
ASKED = {(DENSE, 8): 7.6, (SPARSE, 8): 7.4, (DENSE, 2): 1.95, (SPARSE, 2): 1.92}
ASKED_BYTES = 0.12  # of the sparse layers, of dense
ASKED_LOSS = 1e-3
GRADIENT_BYTES = 4  # float32
INTRODUCTION = """\
Written by `scripts/bench_scaling.sh`. All ranks are on one host, one a GPU where there are any,
and average their gradients every step.
"""
SPEEDS = """\
- **weak**: the recipe's batch on every rank. **strong**: one global batch, in micro-batches.
- **speed-up** and **efficiency**: tokens/s over those of one rank in the same kind of scaling
  (ZeRO-1: over weak without it, since on one rank it changes nothing).
- **exposed**: what a step takes longer than a step of one rank with the same batch a rank. For
  strong scaling that step is not run but lies on the line through two that were: one rank's weak
  and strong step, by the number of micro-batches.
- **bytes a step**: gradients that a rank hands over to be reduced (`bytes_reduced` in metrics.jsonl).
- **memory**: the most that nvidia-smi showed as used on one of the GPUs, context included.
- `*`: other items ran at the same time, on GPUs of their own.
"""


class Items:
    def __init__(self, folder: pathlib.Path) -> None:
        records = (json.loads(path.read_text()) for path in folder.glob("*-*.json"))
        self.all = sorted(records, key=lambda item: item["ranks"])
        self.by_key = {(item["part"], item["model"], item["ranks"]): item for item in self.all}

    def figure(self, part: str, model: str, ranks: int, key: str) -> float | None:
        item = self.by_key.get((part, model, ranks))
        return item["result"].get(key) if item and item["status"] == "done" else None

    def models(self, parts: tuple[str, ...]) -> list[str]:
        """By what a step of one rank costs: the largest first."""
        sizes = {
            item["model"]: -item["shape"]["layers"] * item["shape"]["width"] ** 2
            for item in self.all
            if item["part"] in parts
        }
        return sorted(sizes, key=lambda model: (sizes[model], model))


def micro_batches(item: dict) -> int:
    return item["batch"] // item["ranks"] // item["micro_batch"]


def one_rank_step(items: Items, item: dict) -> float | None:
    """Milliseconds of a step of one rank with this item's batch a rank."""
    model = item["model"]
    weak = items.figure("weak", model, 1, "step_ms")
    if item["part"] != "strong":
        return weak
    strong = items.figure("strong", model, 1, "step_ms")
    if weak is None or strong is None:
        return None
    whole = items.by_key["strong", model, 1]
    if items.by_key["weak", model, 1]["batch"] != whole["micro_batch"]:
        return None  # not on one line
    more = micro_batches(whole) - 1
    slope = (strong - weak) / more if more else 0
    return weak + slope * (micro_batches(item) - 1)


def speed_up(items: Items, item: dict) -> tuple[str, str]:
    base = "strong" if item["part"] == "strong" else "weak"
    one = items.figure(base, item["model"], 1, "tokens_per_second")
    if one is None:
        return NOTHING, NOTHING
    ratio = item["result"]["tokens_per_second"] / one
    asked = ASKED.get((item["model"], item["ranks"])) if item["part"] == "weak" else None
    words = f"{ratio:.3f}×" + (f" (asked for: {asked}×)" if asked else "")
    return words, f"{100 * ratio / item['ranks']:.1f} %"


def gigabytes(value: float | None, unit: float, name: str) -> str:
    return f"{value / unit:.4g} {name}" if value else NOTHING


def row(items: Items, item: dict) -> str:
    start = [PARTS[item["part"]], item["model"], str(item["ranks"])]
    batch = f"{item['batch'] // item['ranks']} in {micro_batches(item)}"
    if item["status"] != "done":
        words = f"{item['status']}: {item['reason']}".replace("|", "/")
        return " | ".join(["", *start, batch, words, *[NOTHING] * 6, ""]).strip()
    result = item["result"]
    one = one_rank_step(items, item)
    exposed = result["step_ms"] - one if one is not None and item["ranks"] > 1 else None
    cells = [
        f"{result['tokens_per_second'] / 1e3:.4g}k{'*' if item['beside'] else ''}",
        *speed_up(items, item),
        f"{result['step_ms']:.1f} ms",
        f"{exposed:.1f} ms" if exposed is not None else NOTHING,
        gigabytes(result["step_bytes"], 1e9, "GB"),
        f"{result['device_gib']:.2f} GiB" if result["device_gib"] else NOTHING,
    ]
    return " | ".join(["", *start, batch, *cells, ""]).strip()


def block_linears(shape: dict) -> int:
    """Elements of the linear layers in GPT-2's blocks: 4·C² of attention, 8·C² of the MLP."""
    return 12 * shape["layers"] * shape["width"] ** 2


def bytes_line(items: Items) -> str:
    start = f"Bytes all-reduced on the sparse layers of {SPARSE}, of dense"
    for ranks in sorted({item["ranks"] for item in items.all if item["ranks"] > 1}):
        dense = items.figure("weak", DENSE, ranks, "step_bytes")
        sparse = items.figure("weak", SPARSE, ranks, "step_bytes")
        if dense and sparse:
            layers = GRADIENT_BYTES * block_linears(items.by_key["weak", DENSE, ranks]["shape"])
            share = 1 - (dense - sparse) / layers
            return f"- {start}: {share:.4f}× (asked for: ≤ {ASKED_BYTES}×); of all: {sparse / dense:.4f}×"
    return f"- {start}: {NOTHING} (asked for: ≤ {ASKED_BYTES}×)"


def loss_row(items: Items, item: dict) -> str:
    cells = [item["model"], str(item["batch"]), str(item["steps"]), str(item["ranks"])]
    if item["status"] != "done":
        words = f"{item['status']}: {item['reason']}".replace("|", "/")
        return f"| {' | '.join([*cells, words, NOTHING])} |"
    loss = item["result"]["valid_loss"]
    one = items.figure("loss", item["model"], 1, "valid_loss")
    apart = f"{abs(loss - one):.1e}" if one is not None and item["ranks"] > 1 else NOTHING
    return f"| {' | '.join([*cells, f'{loss:.6f}', apart])} |"


def print_speeds(items: Items) -> None:
    print(f"\n{SPEEDS}")
    print("| scaling | model | ranks | sequences a rank, micro-batches | tokens/s", end="")
    print(" | speed-up | efficiency | step | exposed | bytes a step | memory |\n" + "|---" * 11 + "|")
    for part in PARTS:
        for model in items.models((part,)):
            for item in items.all:
                if (item["part"], item["model"]) == (part, model):
                    print(row(items, item))
    print(f"\n{bytes_line(items)}")


def print_losses(items: Items) -> None:
    print("\nValidation loss of one global batch on different numbers of ranks:\n")
    print("| model | global batch | steps | ranks | validation loss", end="")
    print(f" | from one rank (asked for: ≤ {ASKED_LOSS:g}) |\n" + "|---" * 6 + "|")
    for model in items.models(("loss",)):
        for item in items.all:
            if (item["part"], item["model"]) == ("loss", model):
                print(loss_row(items, item))


def command_line(item: dict) -> str:
    program = f"tests/bench/{pathlib.Path(item['command'][1]).name}"
    beside = f", beside {item['beside']} others at most" if item["beside"] else ", alone"
    return f"    {program} {shlex.join(item['command'][2:])}    # {item['when']}, {item['seconds']} s{beside}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path, help="--work of bench_scaling.sh")
    folder = parser.parse_args().folder
    if not folder.is_dir():
        sys.exit(f"{folder}: no such folder")
    items = Items(folder)
    print(f"# Several GPUs of one host\n\n{INTRODUCTION}")
    machine = folder / "machine.txt"
    for line in machine.read_text().splitlines() if machine.exists() else []:
        print(f"- {line}")
    if items.models(tuple(PARTS)):
        print_speeds(items)
    if items.models(("loss",)):
        print_losses(items)
    print("\n## Commands\n")
    run = [item for item in items.all if "command" in item]
    print("\n".join(command_line(item) for item in sorted(run, key=lambda item: item["when"])))


if __name__ == "__main__":
    main()
