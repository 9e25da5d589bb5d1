#!/usr/bin/env python3
"""Times one recipe's model, dense against block-sparse, over sparsity, block and batch size.

    scripts/speed_table.py recipes/vit-b16-imagenet-supermask.yaml -o runs/speed \\
        --sparsities 0.5,0.7,0.8,0.9 --blocks 16,32,64 --batches 1,16,256 \\
        --device cuda --precision tf32

Each sparsity and block is one call of `hew bench model`, with random weights and random masks;
within it dense and block-sparse passes take turns. Called again, the script keeps what was measured
and measures the rest; OUT/grid.json has what it was measured with, and a call that differs in more
than sparsities, blocks, batches and repeats is refused. Writes OUT/speed.md and .json and, with
matplotlib, two plots: speed against sparsity at one batch size (--at-batch), and against batch size
at one sparsity (--at-sparsity).
With --beside FILE, what tests/bench/vit_torch.py printed of the same model on the same GPU, tables
have PyTorch's milliseconds beside hew's, and plots its curves.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import time

import figures
import grids

ROOT = pathlib.Path(__file__).resolve().parents[1]
POSITIVE = ("batch", "dense_seconds", "bsr_seconds", "speedup")  # numbers of a cell's rows


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_timing(row):
    return (
        isinstance(row, dict)
        and all(is_number(row.get(name)) and row[name] > 0 for name in POSITIVE)
        and all(isinstance(row.get(name), str) for name in ("hardware", "precision"))
    )


class Beside:
    """PyTorch's milliseconds by (batch, sparsity, block); dense ones have sparsity and block 0."""

    def __init__(self, path, precision):
        self.ms = {}
        if path is None:
            return
        if precision is None:
            sys.exit(f"--beside {path}: which of its rows to take needs --precision")
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            sys.exit(f"--beside {path}: {getattr(error, 'strerror', None) or error}")
        for number, line in enumerate(lines, 1):
            if line.startswith("{"):
                try:
                    self.add(json.loads(line), precision)
                except (ValueError, KeyError):
                    sys.exit(f"--beside {path}: line {number} is no row of vit_torch.py")
        if not self.ms:
            sys.exit(f"--beside {path}: no forward passes in {precision}")

    def add(self, row, precision):
        if row["what"] != "forward" or row["dtype"] != precision:
            return
        place = row["batch"], row["sparsity"], row["block"]
        if not all(map(is_number, [*place, row["ms"]])) or not row["ms"] > 0:
            raise ValueError(row)
        self.ms[place] = row["ms"]

    def __bool__(self):
        return bool(self.ms)


class Measurements:
    def __init__(self, arguments):
        self.arguments = arguments
        self.beside = Beside(arguments.beside, arguments.precision)
        self.failed = {}  # (sparsity, block): what was said

    def file(self, sparsity, block):
        return self.arguments.output / "cells" / f"b{block}-s{100 * sparsity:g}.jsonl"

    def rows(self, sparsity, block):
        """By batch size."""
        file = self.file(sparsity, block)
        try:
            rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        except FileNotFoundError:
            return {}
        except (OSError, ValueError):
            rows = [None]
        if not all(map(is_timing, rows)):
            sys.exit(f"{file}: damaged; without it the cell is measured again")
        return {row["batch"]: row for row in rows}

    def command(self, sparsity, block):
        a = self.arguments
        match = ", ".join(f'"{name}"' for name in a.match)
        rule = (
            f"sparsity=[{{match: [{match}], method: static, block: {block}, "
            f"schedule: {{name: constant, final: {sparsity}}}}}]"
        )
        options = ["--batch", ",".join(map(str, a.batches)), "--device", a.device, "--json"]
        for name in ("precision", "tokens", "threads", "repeats"):
            value = getattr(a, name)
            options += [f"--{name}", str(value)] if value is not None else []
        command = [str(a.hew), "bench", "model", str(a.recipe), *a.overrides, rule, *options]
        return [*command, "-o", str(self.file(sparsity, block))]

    def measure(self, sparsity, block):
        if set(self.arguments.batches) <= set(self.rows(sparsity, block)):
            return
        start = time.monotonic()
        done = subprocess.run(
            self.command(sparsity, block), capture_output=True, text=True, check=False
        )
        word = "done"
        if done.returncode != 0:
            said = (done.stderr.strip() or f"status {done.returncode}").splitlines()[-1]
            self.failed[sparsity, block] = said
            word = f"FAILED: {said}"
        seconds = time.monotonic() - start
        print(f"b = {block}, {figures.percent(sparsity)}: {word} ({seconds:.0f} s)", flush=True)

    def entry(self, sparsity, block, batch):
        row = self.rows(sparsity, block).get(batch)
        if row:
            return f"{row['speedup']:.2f}×"
        return "failed" if (sparsity, block) in self.failed else figures.NOTHING

    def all_rows(self):
        a = self.arguments
        return [
            {"wanted_sparsity": sparsity, "block": block, **row}
            for sparsity in a.sparsities
            for block in a.blocks
            for row in self.rows(sparsity, block).values()
        ]

    def against_sparsity(self, batch):
        a = self.arguments
        head = [f"batch {batch}", *map(figures.percent, a.sparsities)]
        rows = [[f"b = {b}", *(self.entry(s, b, batch) for s in a.sparsities)] for b in a.blocks]
        return figures.table(head, rows)

    def against_batch(self, sparsity):
        a = self.arguments
        head = [figures.percent(sparsity), *(f"batch {batch}" for batch in a.batches)]
        rows = [[f"b = {b}", *(self.entry(sparsity, b, n) for n in a.batches)] for b in a.blocks]
        times = [f"{1e3 * self.dense_seconds(n):.2f} ms" if self.dense_seconds(n) else
                 figures.NOTHING for n in a.batches]
        return figures.table(head, [*rows, ["dense takes", *times]])

    def dense_seconds(self, batch):
        """Mean over all cells of their medians."""
        seconds = [row["dense_seconds"] for row in self.all_rows() if row["batch"] == batch]
        return sum(seconds) / len(seconds) if seconds else None

    def milliseconds(self, sparsity, block, batch):
        """hew's, and PyTorch's; None where there are none. Block 0 is dense."""
        if block == 0:
            own = self.dense_seconds(batch)
        else:
            own = self.rows(sparsity, block).get(batch, {}).get("bsr_seconds")
        place = (batch, sparsity if block else 0, block)
        return own and 1e3 * own, self.beside.ms.get(place)

    def both_sides(self, title, points):
        """Milliseconds, `hew / PyTorch`; points are (head, sparsity, batch)."""
        rows = []
        for block in [0, *self.arguments.blocks]:
            row = [f"b = {block}" if block else "dense"]
            for _, sparsity, batch in points:
                sides = self.milliseconds(sparsity, block, batch)
                row.append(" / ".join(f"{ms:.2f}" if ms else figures.NOTHING for ms in sides))
            rows.append(row)
        return figures.table([title, *(head for head, _, _ in points)], rows)

    def beside_tables(self):
        a = self.arguments
        return [
            "Milliseconds, hew's / PyTorch's:",
            "",
            self.both_sides(
                f"batch {a.at_batch}", [(figures.percent(s), s, a.at_batch) for s in a.sparsities]
            ),
            "",
            self.both_sides(
                figures.percent(a.at_sparsity),
                [(f"batch {n}", a.at_sparsity, n) for n in a.batches],
            ),
            "",
        ]

    def markdown(self):
        a = self.arguments
        rows = self.all_rows()
        what = f"{rows[0]['hardware']}, {rows[0]['precision']}" if rows else "nothing measured"
        return "\n".join(
            [
                f"Dense time over block-sparse time of a whole forward pass ({what}).",
                "",
                self.against_sparsity(a.at_batch),
                "",
                self.against_batch(a.at_sparsity),
                "",
                *(self.beside_tables() if self.beside else []),
                f"    {figures.command(__file__)}",
                "",
            ]
        )

    def curve(self, block, points):
        """hew's gain over its own dense pass; points are (x, sparsity, batch). Beside PyTorch both
        are held against one time, the mean of all dense passes."""
        known = []
        for x, sparsity, batch in points:
            row = self.rows(sparsity, block).get(batch)
            if row and self.beside:
                known.append((x, self.dense_seconds(batch) / row["bsr_seconds"]))
            elif row:
                known.append((x, row["speedup"]))
        return figures.Line(
            f"b = {block}", [x for x, _ in known], [y for _, y in known], family="hew"
        )

    def curve_beside(self, block, points):
        """PyTorch's gain over hew's dense pass."""
        known = []
        for x, sparsity, batch in points:
            ms = self.milliseconds(sparsity, block, batch)[1]
            if ms and self.dense_seconds(batch):
                known.append((x, 1e3 * self.dense_seconds(batch) / ms))
        label = f"PyTorch, b = {block}" if block else "PyTorch, dense"
        return figures.Line(label, [x for x, _ in known], [y for _, y in known], family="PyTorch")

    def curves(self, points):
        blocks = self.arguments.blocks
        others = [self.curve_beside(b, points) for b in [*blocks, 0]] if self.beside else []
        return [self.curve(b, points) for b in blocks] + others

    def plots(self):
        a = self.arguments
        sparsities = self.curves([(100 * s, s, a.at_batch) for s in a.sparsities])
        batches = self.curves([(n, a.at_sparsity, n) for n in a.batches])
        word = "hew's dense time / time" if self.beside else "dense time / block-sparse time"
        common = {"y_label": word, "level": ("hew, dense" if self.beside else "dense", 1.0)}
        yield figures.plot(
            a.output / "speed-sparsity.png",
            sparsities,
            x_label="sparsity (% dead blocks)",
            title=f"batch {a.at_batch}",
            **common,
        )
        yield figures.plot(
            a.output / "speed-batch.png",
            batches,
            x_label="batch size",
            title=figures.percent(a.at_sparsity),
            log_x=True,
            **common,
        )

    def write(self):
        out = self.arguments.output
        (out / "speed.md").write_text(self.markdown(), encoding="utf-8")
        (out / "speed.json").write_text(json.dumps(self.all_rows(), indent=1) + "\n")
        return list(dict.fromkeys(self.plots()))


def numbers(kind):
    return lambda text: [kind(word) for word in text.split(",")]


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", type=pathlib.Path)
    parser.add_argument("overrides", nargs="*", help="key=value for every cell")
    parser.add_argument("-o", "--output", type=pathlib.Path, required=True, help="folder")
    parser.add_argument("--sparsities", type=numbers(float), default=[0.5, 0.7, 0.8, 0.9])
    parser.add_argument("--blocks", type=numbers(int), default=[16, 32, 64])
    parser.add_argument("--batches", type=numbers(int), default=[1, 16])
    parser.add_argument("--at-batch", type=int, help="of the first table; the largest")
    parser.add_argument("--at-sparsity", type=float, help="of the second table; 0.9, or the last")
    parser.add_argument(
        "--match",
        type=lambda text: text.split(","),
        default=["blocks.*.mlp.*.weight"],
        help="globs of the sparse matrices",
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", help="fp32, tf32, bf16 or fp64")
    parser.add_argument("--tokens", type=int, help="of a language model's sequences")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--beside", type=pathlib.Path, help="lines of tests/bench/vit_torch.py")
    parser.add_argument("--table-only", action="store_true", help="measure nothing")
    parser.add_argument("--hew", type=pathlib.Path, default=ROOT / "build" / "hew")
    arguments = parser.parse_intermixed_args()
    if arguments.at_batch is None:
        arguments.at_batch = max(arguments.batches)
    if arguments.at_sparsity is None:
        known = arguments.sparsities
        arguments.at_sparsity = 0.9 if 0.9 in known else known[-1]
    if arguments.at_batch not in arguments.batches:
        sys.exit(f"--at-batch {arguments.at_batch}: not one of --batches")
    if arguments.at_sparsity not in arguments.sparsities:
        sys.exit(f"--at-sparsity {arguments.at_sparsity:g}: not one of --sparsities")
    return arguments


def open_folder(a):
    wanted = grids.settings(
        a, device=a.device, precision=a.precision, tokens=a.tokens, threads=a.threads
    )
    grids.open_folder(a.output, wanted, cells="*.jsonl", what="timings", keep=not a.table_only)


def main():
    arguments = parse_arguments()
    measurements = Measurements(arguments)
    if not arguments.table_only:
        grids.require_program("--hew", arguments.hew)
    open_folder(arguments)
    measurements.all_rows()  # a damaged file is found before anything starts
    if not arguments.table_only:
        for sparsity in arguments.sparsities:
            for block in arguments.blocks:
                measurements.measure(sparsity, block)
    plotted = measurements.write()
    print(measurements.markdown())
    print(arguments.output / "speed.md", *plotted, sep="\n")
    return 1 if measurements.failed else 0


if __name__ == "__main__":
    sys.exit(main())
