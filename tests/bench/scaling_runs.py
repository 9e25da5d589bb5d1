#!/usr/bin/env python3
"""Times a list of recipes on several numbers of ranks, many at once where there are GPUs enough.

scripts/bench_scaling.sh starts it. Every item is one start of gpt2_hew.py on GPUs of its own, and
leaves WORK/NAME.json, .log: an item that is done there, with the same command, is kept. A run that
comes to its end without having started an item says so in its file; the next one goes on there.

    weak    the recipe's batch on every rank
    loss    validation loss after some steps at one global batch
    shard   weak, with optim.shard=true
    strong  one global batch, in micro-batches of the recipe's batch at most
"""

import argparse
import dataclasses
import datetime
import itertools
import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import time

import gpt2_hew

PARTS = ("weak", "loss", "shard", "strong")
START_SECONDS = 12.0  # assumed, from start to the first counted step
UNKNOWN_SECONDS = 25.0  # assumed of an item whose steps nothing is known of
ENDING_SECONDS = 8.0  # that gpt2_hew.py needs to end its ranks
# How much longer than what it overtakes an item may be expected to take.
PATIENCE_SECONDS = 5.0


@dataclasses.dataclass(frozen=True)
class Item:
    part: str
    recipe: pathlib.Path
    ranks: int
    batch: int  # of all ranks
    micro_batch: int
    options: tuple[str, ...]  # of gpt2_hew.py
    overrides: tuple[str, ...]
    steps: int  # until it ends

    @property
    def name(self) -> str:
        return f"{self.part}-{self.recipe.stem}-{self.ranks}"


@dataclasses.dataclass
class Running:
    item: Item
    process: subprocess.Popen
    places: list[str]
    start: float
    until: float  # expected
    command: list[str]
    beside: int = 0  # the most items that ran at the same time


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--hew", required=True)
    parser.add_argument("--recipes", required=True, help="most important first")
    parser.add_argument("--loss-recipes", required=True, help="most important first")
    parser.add_argument("--ranks", default="1,2,4,8")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--loss-corpus", required=True)
    parser.add_argument("--loss-valid", required=True)
    parser.add_argument("--loss-batch", type=int, default=32)
    parser.add_argument("--loss-steps", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=524_288, help="of strong scaling's step")
    parser.add_argument("--slots", type=int, default=0, help="places for ranks; 0: the GPUs")
    parser.add_argument("--one-at-a-time", action="store_true")
    parser.add_argument("--seconds", type=float, required=True, help="for everything")
    parser.add_argument("--limit", type=float, default=150, help="seconds of one item")
    parser.add_argument("--mpirun", default="mpirun")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="of all recipes")
    return parser.parse_args()


def places_of(arguments: argparse.Namespace) -> list[str]:
    """One for each rank that can run at a time: the numbers of GPUs, as CUDA_VISIBLE_DEVICES."""
    if arguments.slots:
        return [str(place) for place in range(arguments.slots)]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible:
        return visible.split(",")
    gpus = subprocess.run(("nvidia-smi", "--list-gpus"), capture_output=True, text=True, check=True)
    return [str(place) for place in range(gpus.stdout.count("GPU "))]


def rank_order(arguments: argparse.Namespace) -> list[int]:
    """1 first, then the largest: what speed-ups are most asked of."""
    ranks = sorted({int(number) for number in arguments.ranks.split(",")})
    return [*ranks[:1], *ranks[:0:-1][:1], *ranks[1:-1]]


def timed(arguments: argparse.Namespace, part: str, recipe: pathlib.Path, ranks: int) -> Item:
    batch = gpt2_hew.recipe_number(recipe, "batch")
    sharding = ("optim.shard=true",) if part == "shard" else ()
    if part != "strong":
        lines = ("--log-every", "5", "--lines", "5", "--skip", "2")
        return Item(part, recipe, ranks, batch * ranks, batch, lines, sharding, steps=25)
    whole = arguments.tokens // gpt2_hew.recipe_number(recipe, "context")
    micro = math.gcd(whole // ranks, batch)
    return Item(
        part,
        recipe,
        ranks,
        whole,
        micro,
        ("--log-every", "1", "--lines", "3", "--skip", "1"),
        (f"train.batch={whole}", f"train.micro_batch={micro}"),
        steps=3,
    )


def losses(arguments: argparse.Namespace, recipe: pathlib.Path, ranks: int) -> Item:
    batch, steps = arguments.loss_batch, arguments.loss_steps
    overrides = (
        f"data.train={arguments.loss_corpus}",
        f"data.valid={arguments.loss_valid}",
        f"train.batch={batch}",
        f"train.steps={steps}",  # schedules come to their end
        "train.eval_batches=10",
    )
    every = max(steps // 4, 1)
    lines = ("--log-every", str(every), "--lines", str(steps // every), "--skip", "1")
    options = (*lines, "--until-eval")
    return Item("loss", recipe, ranks, batch, batch // ranks, options, overrides, steps)


def items_of(arguments: argparse.Namespace) -> list[Item]:
    """Most important first: the largest models' weak scaling, then the losses, then the rest."""
    recipes = [pathlib.Path(recipe) for recipe in arguments.recipes.split(",")]
    loss_recipes = [pathlib.Path(recipe) for recipe in arguments.loss_recipes.split(",")]
    order = rank_order(arguments)
    parts = {
        "weak": [timed(arguments, "weak", *pair) for pair in itertools.product(recipes, order)],
        "loss": [losses(arguments, *pair) for pair in itertools.product(loss_recipes, order)],
        "shard": [
            timed(arguments, "shard", *pair)
            for pair in itertools.product(recipes, order)
            if pair[1] > 1
        ],
        "strong": [timed(arguments, "strong", *pair) for pair in itertools.product(recipes, order)],
    }
    first = 2 * len(order)
    ordered = [*parts["weak"][:first], *parts["loss"], *parts["weak"][first:]]
    ordered += [*parts["shard"], *parts["strong"]]
    return [item for item in ordered if item.part in arguments.parts.split(",")]


def command_of(arguments: argparse.Namespace, item: Item) -> list[str]:
    return [
        sys.executable,
        str(pathlib.Path(__file__).with_name("gpt2_hew.py")),
        *("--hew", arguments.hew, "--recipe", str(item.recipe), "--data", arguments.corpus),
        *("--gpus", str(item.ranks), "--mpirun", arguments.mpirun, *item.options),
        *arguments.overrides,
        *item.overrides,
    ]


class Schedule:
    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.deadline = time.monotonic() + arguments.seconds
        self.places = places_of(arguments)
        self.total = len(self.places)
        self.running: list[Running] = []
        self.records: dict[str, dict] = {}  # of items that are done

    def write(self, item: Item, status: str, **more: object) -> None:
        facts = {
            "name": item.name,
            "part": item.part,
            "model": item.recipe.stem,
            "ranks": item.ranks,
            "batch": item.batch,
            "micro_batch": item.micro_batch,
            "steps": item.steps,
            "shape": {
                key: gpt2_hew.recipe_number(item.recipe, key)
                for key in ("layers", "width", "context")
            },
            "status": status,
            **more,
        }
        path = self.arguments.work / f"{item.name}.json"
        path.write_text(json.dumps(facts, indent=1) + "\n")
        if status == "done":
            self.records[item.name] = facts
        print(f"   {item.name}: {status} {more.get('reason', '')}", flush=True)

    def kept(self, item: Item) -> bool:
        path = self.arguments.work / f"{item.name}.json"
        if not path.exists():
            return False
        facts = json.loads(path.read_text())
        if facts["status"] != "done":
            return False
        # Python and the checkout may be somewhere else now.
        if facts["command"][2:] != command_of(self.arguments, item)[2:]:
            return False
        self.records[item.name] = facts
        return True

    def seconds_of(self, item: Item) -> float:
        """Expected, from the same model on one rank where that is known."""
        known = self.records.get(f"weak-{item.recipe.stem}-1")
        if known is None:
            return UNKNOWN_SECONDS
        share = item.batch / item.ranks / known["batch"]
        return START_SECONDS + item.steps * share * known["result"]["step_ms"] / 1e3

    def next_of(self, queue: list[Item]) -> Item | None:
        """The first, if there is room for it; else one that it need not wait for any longer."""
        room = len(self.places)
        if not queue or (self.running and self.arguments.one_at_a_time):
            return None
        if queue[0].ranks <= room:
            return queue[0]
        starts = math.inf
        for run in sorted(self.running, key=lambda run: run.until):
            room += len(run.places)
            if room >= queue[0].ranks:
                starts = run.until
                break
        latest = starts + PATIENCE_SECONDS - time.monotonic()
        fitting = (item for item in queue[1:] if item.ranks <= len(self.places))
        return next((item for item in fitting if self.seconds_of(item) <= latest), None)

    def start(self, item: Item) -> None:
        now = time.monotonic()
        places, self.places = self.places[: item.ranks], self.places[item.ranks :]
        limit = min(self.arguments.limit, self.deadline - now - ENDING_SECONDS)
        command = command_of(self.arguments, item)
        environment = dict(os.environ, CUDA_DEVICE_ORDER="PCI_BUS_ID")
        if not self.arguments.slots:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(places)
        print(f"== {item.name}, on {','.join(places)}", flush=True)
        with (self.arguments.work / f"{item.name}.log").open("w") as log:
            process = subprocess.Popen(
                [*command[:2], "--limit", str(limit), *command[2:]],
                stdout=subprocess.PIPE,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=environment,
                text=True,
            )
        expected = now + self.seconds_of(item)
        self.running.append(Running(item, process, places, now, expected, command))
        for run in self.running:
            run.beside = max(run.beside, len(self.running) - 1)

    def collect(self) -> None:
        for run in [run for run in self.running if run.process.poll() is not None]:
            self.running.remove(run)
            self.places = sorted([*self.places, *run.places])
            self.settle(run)

    def settle(self, run: Running) -> None:
        out = run.process.stdout.read()
        facts = {
            "command": run.command,
            "seconds": round(time.monotonic() - run.start, 1),
            "when": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "beside": run.beside,
        }
        if run.process.returncode == 0:
            self.write(run.item, "done", result=json.loads(out), **facts)
            return
        log = (self.arguments.work / f"{run.item.name}.log").read_text().splitlines()
        reason = log[-1].removeprefix("gpt2_hew: ") if log else "no word"
        if "was too slow" in reason and time.monotonic() > self.deadline - 2 * ENDING_SECONDS:
            self.write(run.item, "not run", reason="the time was up", **facts)
        else:
            self.write(run.item, "failed", reason=reason, **facts)

    def go_on(self, queue: list[Item]) -> None:
        """Starts what can be started, and drops from the queue what cannot be run any more."""
        left = self.deadline - time.monotonic() - ENDING_SECONDS
        for item in [item for item in queue if self.seconds_of(item) > left]:
            queue.remove(item)
            self.write(item, "not run", reason="the time was up")
        while (item := self.next_of(queue)) is not None:
            queue.remove(item)
            self.start(item)

    def run(self, items: list[Item]) -> None:
        queue = []
        for item in items:
            if self.kept(item):
                print(f"== {item.name}: kept", flush=True)
            elif item.ranks > self.total:
                self.write(item, "not run", reason=f"there are places for {self.total} ranks")
            else:
                queue.append(item)
        try:
            while queue or self.running:
                self.go_on(queue)
                time.sleep(0.1)
                self.collect()
        finally:
            for run in self.running:
                run.process.terminate()
                run.process.wait()


def main() -> int:
    arguments = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # ends what is running
    arguments.work.mkdir(parents=True, exist_ok=True)
    try:
        Schedule(arguments).run(items_of(arguments))
    except (gpt2_hew.RunError, OSError, subprocess.CalledProcessError) as error:
        print(f"scaling_runs: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
