#!/usr/bin/env python3
"""Trains a grid of methods × block sizes × sparsities × seeds from one recipe; table and plot.

    scripts/accuracy_table.py recipes/vit-tiny-fashion-dense.yaml -o runs/grid \\
        --methods supermask,blast --blocks 8,16 --sparsities 0.7,0.8,0.9 --seeds 1,2 train.steps=500

Every cell is a run of its own below OUT/cells. Called again, the script keeps those that are
finished, resumes those that are not, and starts the rest, so a grid may be made in many sittings;
--minutes ends a sitting with a checkpoint of what is running. OUT/grid.json has what the cells are
made of; another recipe, override, match, rule or schedule in the same OUT is refused. Each cell has
the recipe's rules replaced by one: --match, method, block, and a schedule that ends at the sparsity.
GPUs are used side by side, one run each (--gpus). Writes OUT/accuracy.md, .json and, with
matplotlib, .png.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import queue
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time

import figures
import grids

ROOT = pathlib.Path(__file__).resolve().parents[1]
PATIENCE_SECONDS = 120  # for a run that was told to leave with a checkpoint
METRICS = ("loss", "top1", "top5", "perplexity", "bits_per_byte")
LOWER_IS_BETTER = ("loss", "perplexity", "bits_per_byte")


@dataclasses.dataclass(frozen=True)
class Cell:
    method: str  # "dense": without a rule
    block: int
    sparsity: float
    seed: int

    @property
    def name(self):
        if self.method == "dense":
            return f"dense-seed{self.seed}"
        return f"{self.method}-b{self.block}-s{100 * self.sparsity:g}-seed{self.seed}"


class Grid:
    """What the command line asks for."""

    def __init__(self, arguments):
        self.arguments = arguments
        self.folder = arguments.output / "cells"

    def open_folder(self):
        a = self.arguments
        own = {}
        for method in a.methods:
            own[f"rule of {method}"] = self.more_keys(method)
            own[f"schedule of {method}"] = self.schedule(method)
        grids.open_folder(
            a.output,
            grids.settings(a, **own),
            cells="*/recipe.yaml",
            what="runs",
            keep=not a.table_only,
        )

    def cells(self):
        """In the order in which they run: a whole seed before the next."""
        a = self.arguments
        for seed in a.seeds:
            if not a.no_dense:
                yield Cell("dense", 0, 0.0, seed)
            for sparsity in a.sparsities:
                for block in a.blocks:
                    for method in a.methods:
                        yield Cell(method, block, sparsity, seed)

    def more_keys(self, method):
        options = (option.partition(":") for option in self.arguments.rule)
        return [text.strip() for name, _, text in options if name == method]

    def schedule(self, method):
        return dict(option.split("=", 1) for option in self.arguments.schedule).get(method)

    def rule(self, cell):
        if cell.method == "dense":
            return "sparsity=[]"
        match = ", ".join(f'"{name}"' for name in self.arguments.match)
        more = "".join(", " + text for text in self.more_keys(cell.method))
        kind = self.schedule(cell.method)
        name = f"name: {kind}, " if kind else ""
        return (
            f"sparsity=[{{match: [{match}], method: {cell.method}, block: {cell.block}, "
            f"schedule: {{{name}final: {cell.sparsity}}}{more}}}]"
        )

    def command(self, cell):
        run = self.folder / cell.name
        start = [*shlex.split(self.arguments.launcher), str(self.arguments.hew), "train"]
        if list(run.glob("checkpoints/*.h5")):
            return [*start, "--resume", f"run.dir={run}"]
        shutil.rmtree(run, ignore_errors=True)  # stopped before it had anything to keep
        device = ["run.device=cuda"] if self.arguments.gpus else []
        own = [f"run.dir={run}", f"run.seed={cell.seed}", self.rule(cell)]
        return [*start, str(self.arguments.recipe), *device, *self.arguments.overrides, *own]


def last_evaluation(run):
    """The numbers of a finished run's last evaluation, or None."""
    try:
        recipe = (run / "recipe.yaml").read_text(encoding="utf-8")
        lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    steps = re.search(r"^train:\n(?:  .*\n)*?  steps: (\d+)$", recipe, re.MULTILINE)
    found = None
    for line in lines:
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            break  # cut off while it was written
        if record.get("kind") == "eval":
            found = record
    return found if steps and found and found["step"] >= int(steps[1]) else None


def lacks_metric(metric, cell, record):
    """What to say of a finished cell without the number that is asked for, or None."""
    if metric is None or metric in record:
        return None
    return f"--metric {metric}: not in the evaluation of {cell.name}"


class Sitting:
    """Runs cells side by side until all are done or time is up."""

    def __init__(self, grid, cells):
        self.grid = grid
        self.waiting = queue.SimpleQueue()
        for cell in cells:
            self.waiting.put(cell)
        self.failed = {}  # by cell: the last line that it said
        self.useless = None  # why no cell of this grid can be shown
        self.running = {}
        self.lock = threading.Lock()
        self.stopping = threading.Event()

    def run(self, slots, seconds):
        workers = [threading.Thread(target=self.work, args=(slot, len(slots))) for slot in slots]
        for worker in workers:
            worker.start()
        end = time.monotonic() + seconds
        try:
            while any(worker.is_alive() for worker in workers) and time.monotonic() < end:
                if self.useless:
                    break
                time.sleep(0.1)
        except KeyboardInterrupt:
            pass
        self.stop(workers)

    def stop(self, workers):
        self.stopping.set()
        with self.lock:
            for process in self.running.values():
                process.send_signal(signal.SIGUSR1)  # leave with a checkpoint
        end = time.monotonic() + PATIENCE_SECONDS
        for worker in workers:
            worker.join(max(0.0, end - time.monotonic()))
        with self.lock:
            for process in self.running.values():
                process.kill()

    def environment(self, slot, slots):
        environment = dict(os.environ)
        if slot is not None:
            environment["CUDA_VISIBLE_DEVICES"] = slot
        elif slots > 1:
            share = max(1, len(os.sched_getaffinity(0)) // slots)
            environment.setdefault("OMP_NUM_THREADS", str(share))
        return environment

    def work(self, slot, slots):
        environment = self.environment(slot, slots)
        while not self.stopping.is_set():
            try:
                cell = self.waiting.get_nowait()
            except queue.Empty:
                return
            self.train(cell, environment)

    def train(self, cell, environment):
        run = self.grid.folder / cell.name
        log = run.with_suffix(".log")
        start = time.monotonic()
        with log.open("ab") as output:
            process = subprocess.Popen(
                self.grid.command(cell),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            with self.lock:
                self.running[cell] = process
                if self.stopping.is_set():
                    process.send_signal(signal.SIGUSR1)
            status = process.wait()
        with self.lock:
            del self.running[cell]
        record = last_evaluation(run)
        if record is not None:
            word = "done"
            metric = self.grid.arguments.metric
            self.useless = self.useless or lacks_metric(metric, cell, record)
            if self.useless:
                self.stopping.set()
        elif status == 0 or self.stopping.is_set():
            word = "to be continued"
        else:
            said = log.read_text(errors="replace").strip().splitlines() or [f"status {status}"]
            self.failed[cell] = said[-1]
            word = f"FAILED: {said[-1]}"
        print(f"{cell.name}: {word} ({time.monotonic() - start:.0f} s)", flush=True)


class Results:
    """The finished cells of a grid, and what became of the others."""

    def __init__(self, grid, failed):
        self.grid = grid
        self.records = {cell: last_evaluation(grid.folder / cell.name) for cell in grid.cells()}
        self.failed = failed
        self.metric = grid.arguments.metric or self.usual_metric()

    def usual_metric(self):
        known = [record for record in self.records.values() if record]
        return "top1" if known and "top1" in known[0] else "loss"

    @property
    def scale(self):
        """Shares are shown in percent."""
        return 100.0 if self.metric.startswith("top") else 1.0

    def values(self, method, block, sparsity):
        return [
            self.scale * record[self.metric]
            for cell, record in self.records.items()
            if record and (cell.method, cell.block, cell.sparsity) == (method, block, sparsity)
        ]

    def entry(self, method, block, sparsity):
        values = self.values(method, block, sparsity)
        if not values:
            lost = any(
                (cell.method, cell.block, cell.sparsity) == (method, block, sparsity)
                for cell in self.failed
            )
            return "failed" if lost else figures.NOTHING
        mean, spread = figures.mean_and_spread(values)
        digits = 2 if self.scale > 1 else 4
        text = f"{mean:.{digits}f}" + (f" ± {spread:.{digits}f}" if spread is not None else "")
        seeds = len(self.grid.arguments.seeds)
        return text if len(values) == seeds else f"{text} ({len(values)} of {seeds} seeds)"

    def lines(self):
        a = self.grid.arguments
        for method in a.methods:
            for block in a.blocks:
                line = figures.Line(f"{method}, b = {block}", [], [], family=method)
                for sparsity in sorted(a.sparsities):
                    values = self.values(method, block, sparsity)
                    if values:
                        mean, spread = figures.mean_and_spread(values)
                        line.x.append(100 * sparsity)
                        line.y.append(mean)
                        line.spread.append(spread or 0.0)
                if line.x:
                    yield line

    def markdown(self):
        a = self.grid.arguments
        done = sum(record is not None for record in self.records.values())
        unit = ", %" if self.scale > 1 else ""
        spread = " ± standard deviation" if len(a.seeds) > 1 else ""
        lower = ", lower is better" if self.metric in LOWER_IS_BETTER else ""
        rows = [
            [f"{method}, b = {block}", *(self.entry(method, block, s) for s in a.sparsities)]
            for method in a.methods
            for block in a.blocks
        ]
        head = ["", *(figures.percent(s) for s in a.sparsities)]
        text = [
            f"{self.metric}{unit}: mean{spread} over seeds {', '.join(map(str, a.seeds))}{lower}; "
            f"{done} of {len(self.records)} runs finished.",
            "",
        ]
        if not a.no_dense:
            text += [f"Dense: {self.entry('dense', 0, 0.0)}", ""]
        text += [figures.table(head, rows), "", f"    {figures.command(__file__)}", ""]
        return "\n".join(text)

    def write(self):
        out = self.grid.arguments.output
        (out / "accuracy.md").write_text(self.markdown(), encoding="utf-8")
        cells = [dataclasses.asdict(c) | {"evaluation": r} for c, r in self.records.items()]
        (out / "accuracy.json").write_text(json.dumps(cells, indent=1) + "\n", encoding="utf-8")
        dense = self.values("dense", 0, 0.0)
        lines = list(self.lines())
        if not lines:
            return "no plot: nothing is finished"
        return figures.plot(
            out / "accuracy.png",
            lines,
            x_label="sparsity (% dead blocks)",
            y_label=self.metric + (" (%)" if self.scale > 1 else ""),
            level=("dense", figures.mean_and_spread(dense)[0]) if dense else None,
        )


def listed_gpus(text):
    """"none", "all", or indices; an index may come more than once."""
    if text == "none" or (text == "all" and shutil.which("nvidia-smi") is None):
        return []
    if text != "all":
        return text.split(",")
    if os.environ.get("CUDA_VISIBLE_DEVICES"):
        return os.environ["CUDA_VISIBLE_DEVICES"].split(",")
    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return [str(i) for i, line in enumerate(listing.stdout.splitlines()) if line.startswith("GPU")]


def numbers(kind):
    return lambda text: [kind(word) for word in text.split(",")]


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", type=pathlib.Path)
    parser.add_argument("overrides", nargs="*", help="key=value for every cell")
    parser.add_argument("-o", "--output", type=pathlib.Path, required=True, help="folder")
    parser.add_argument("--methods", type=lambda text: text.split(","), default=["supermask"])
    parser.add_argument("--blocks", type=numbers(int), default=[8, 16, 32])
    parser.add_argument("--sparsities", type=numbers(float), default=[0.7, 0.8, 0.9])
    parser.add_argument("--seeds", type=numbers(int), default=[1])
    parser.add_argument("--no-dense", action="store_true", help="leave out the dense runs")
    parser.add_argument(
        "--match",
        type=lambda text: text.split(","),
        default=["blocks.*.mlp.*.weight"],
        help="globs of the matrices that the rule is for",
    )
    parser.add_argument(
        "--rule",
        action="append",
        default=[],
        metavar="METHOD:YAML",
        help='more keys of a method\'s rule, such as "blast: every: 20, regrow: swap"',
    )
    parser.add_argument(
        "--schedule",
        action="append",
        default=[],
        metavar="METHOD=NAME",
        help="course of a method's sparsity; by default the method's own",
    )
    parser.add_argument("--metric", help="of the evaluation; top1 of images, loss of text")
    parser.add_argument("--gpus", default="all", help="all, none, or indices such as 0,1 or 0,0")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side without GPUs")
    parser.add_argument("--launcher", default="", help='such as "mpirun -n 2"')
    parser.add_argument("--minutes", type=float, default=float("inf"), help="of this sitting")
    parser.add_argument("--table-only", action="store_true", help="train nothing")
    parser.add_argument("--hew", type=pathlib.Path, default=ROOT / "build" / "hew")
    arguments = parser.parse_intermixed_args()
    check_arguments(arguments)
    arguments.gpus = listed_gpus(arguments.gpus)
    return arguments


def check_arguments(a):
    methods = ", ".join(a.methods)
    for option, mark, texts in (("--rule", ":", a.rule), ("--schedule", "=", a.schedule)):
        for text in texts:
            method, _, value = text.partition(mark)
            if method not in a.methods or not value.strip():
                sys.exit(f"{option} {text}: expected METHOD{mark}… of a method of {methods}")
    if a.metric is not None and a.metric not in METRICS:
        sys.exit(f"--metric {a.metric}: not one of {', '.join(METRICS)}")
    if not a.table_only:
        grids.require_program("--hew", a.hew)
        for program in shlex.split(a.launcher)[:1]:
            grids.require_program("--launcher", program)


def main():
    arguments = parse_arguments()
    grid = Grid(arguments)
    grid.open_folder()
    left = []
    for cell in grid.cells():
        record = last_evaluation(grid.folder / cell.name)
        if record is None:
            left.append(cell)
        elif lacks_metric(arguments.metric, cell, record):
            sys.exit(lacks_metric(arguments.metric, cell, record))
    sitting = Sitting(grid, [] if arguments.table_only else left)
    sitting.run(arguments.gpus or [None] * arguments.jobs, 60 * arguments.minutes)
    if sitting.useless:
        sys.exit(sitting.useless)
    results = Results(grid, sitting.failed)
    plotted = results.write()
    print(results.markdown())
    print(arguments.output / "accuracy.md")
    print(plotted)
    return 1 if sitting.failed else 0


if __name__ == "__main__":
    sys.exit(main())
