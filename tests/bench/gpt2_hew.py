#!/usr/bin/env python3
"""Times training steps of a recipe in hew, and prints one JSON line like gpt2_torch.py's.

Starts `hew train` (under mpirun for several GPUs) on a run of no end, unless train.steps is given,
waits for enough lines of its metrics, and ends it: a run that stops by itself would write a
checkpoint.

    tokens_per_second   of all GPUs: the median of the logged rates, the first ones left out
    device_gib          the most that nvidia-smi showed as used on one GPU, from start to end; of
                        those in CUDA_VISIBLE_DEVICES, where that is set
    optimizer_bytes     of one rank: moments
    step_bytes          that one rank hands over to be reduced in a step
    valid_loss          with --until-eval: of the first evaluation
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
ENDLESS = 1_000_000  # steps


class RunError(Exception):
    """hew did not get as far as it should; one line."""


class MemoryWatch:
    """Peak of nvidia-smi's memory.used over the visible GPUs, sampled ten times a second."""

    QUERY = (
        "nvidia-smi",
        "--query-gpu=memory.used",
        "--format=csv,noheader,nounits",
        "-lms",
        "100",
    )

    def __init__(self) -> None:
        self.peak_mib = 0
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        try:
            self.process = subprocess.Popen(
                [*self.QUERY, *([f"--id={visible}"] if visible else [])],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        except FileNotFoundError:
            self.process = None
            return
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            if line.strip().isdigit():
                self.peak_mib = max(self.peak_mib, int(line))

    def stop(self) -> float | None:
        """GiB; None where nvidia-smi said nothing."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.thread.join()
        return self.peak_mib / 1024 if self.peak_mib else None


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=("124m", "774m", "1558m"), default="124m")
    parser.add_argument("--recipe", type=pathlib.Path, help="recipes/gpt2-SIZE-cuda.yaml")
    parser.add_argument("--hew", type=pathlib.Path, default=ROOT / "build-cuda" / "hew")
    parser.add_argument("--data", required=True, help="corpus in GPT-2's vocabulary")
    parser.add_argument(
        "--gpus", type=int, default=1, help="each with a rank and the recipe's batch"
    )
    parser.add_argument("--log-every", type=int, default=10, help="steps between lines of metrics")
    parser.add_argument("--lines", type=int, default=6, help="lines of metrics to wait for")
    parser.add_argument("--skip", type=int, default=2, help="first lines that do not count")
    parser.add_argument(
        "--until-eval", action="store_true", help="wait for an evaluation (train.eval_every) too"
    )
    parser.add_argument("--limit", type=float, default=540, help="seconds for all of it")
    parser.add_argument("--mpirun", default="mpirun", help="with options, in one word")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="of the recipe")
    arguments = parser.parse_args()
    if arguments.lines <= arguments.skip:
        parser.error("--lines: expected more than --skip")
    arguments.recipe = arguments.recipe or ROOT / "recipes" / f"gpt2-{arguments.size}-cuda.yaml"
    return arguments


def recipe_number(recipe: pathlib.Path, key: str) -> int:
    """The first whole number that the recipe gives to a key of this name, in any section."""
    found = re.search(rf"\b{key}: *(\d+)", recipe.read_text())
    if found is None:
        raise RunError(f"{recipe}: no {key}")
    return int(found.group(1))


def command_of(arguments: argparse.Namespace, recipe: pathlib.Path, run: pathlib.Path) -> list[str]:
    batch = recipe_number(recipe, "batch") * arguments.gpus
    overrides = [
        f"run.dir={run}",
        f"data.train={arguments.data}",
        f"train.steps={ENDLESS}",
        f"train.log_every={arguments.log_every}",
        f"train.batch={batch}",
        "checkpoint.every=0",
        *arguments.overrides,
    ]
    launcher = []
    if arguments.gpus > 1:
        launcher = [*arguments.mpirun.split(), "-n", str(arguments.gpus), "--bind-to", "none"]
    return [*launcher, str(arguments.hew), "train", str(recipe), *overrides]


def records_in(path: pathlib.Path) -> list[dict[str, object]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().rpartition("\n")[0].splitlines()]


def of_kind(records: list[dict[str, object]], kind: str) -> list[dict[str, object]]:
    return [record for record in records if record["kind"] == kind]


def end(process: subprocess.Popen, gpus: int) -> None:
    """mpirun passes SIGTERM on and then kills its ranks; hew alone would write a checkpoint.

    Ranks give back a GPU's memory some time after mpirun has ended: the next run must not see it.
    """
    if process.poll() is not None:
        return
    if gpus == 1:
        process.kill()
    else:
        process.terminate()
    try:
        process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    deadline = time.monotonic() + 60
    while in_session(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)


def in_session(session: int) -> bool:
    """Whether one of its processes still has to end."""
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            words = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        if int(words[3]) == session and words[0] != "Z":
            return True
    return False


def run(arguments: argparse.Namespace, folder: pathlib.Path) -> list[dict[str, object]]:
    command = command_of(arguments, arguments.recipe, folder / "run")
    print(" ".join(command), file=sys.stderr, flush=True)
    deadline = time.monotonic() + arguments.limit
    log = folder / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            while True:
                ended = process.poll() is not None  # its last records are there then
                records = records_in(folder / "run" / "metrics.jsonl")
                lines = len(of_kind(records, "train"))
                evaluated = not arguments.until_eval or of_kind(records, "eval")
                if lines >= arguments.lines and evaluated:
                    return records
                if ended or time.monotonic() > deadline:
                    break
                time.sleep(0.2)
        finally:
            end(process, arguments.gpus)
    text = log.read_text(errors="replace")
    print(text[-4000:], file=sys.stderr)
    own = [line for line in text.splitlines() if line.startswith("hew: ")]
    if own:
        raise RunError(own[0])
    why = f"ended with status {process.returncode}"
    if time.monotonic() > deadline:
        why = "was too slow"
    raise RunError(f"hew {why} after {lines} lines of metrics")


def step_bytes(records: list[dict[str, object]]) -> float | None:
    """From the metrics' sums since the start: the mean between the first line and the last."""
    first, last = records[0], records[-1]
    if last["step"] == first["step"]:
        return None
    return (last["bytes_reduced"] - first["bytes_reduced"]) / (last["step"] - first["step"])


def report(arguments: argparse.Namespace, records: list[dict], peak_gib: float | None) -> None:
    evaluations = of_kind(records, "eval")
    records = of_kind(records, "train")
    counted = records[arguments.skip :]
    tokens = statistics.median(record["tokens_per_second"] for record in counted)
    step_ms = 1e3 * statistics.median(record["step_seconds"] for record in counted)
    print(
        json.dumps(
            {
                "side": "hew",
                "size": arguments.size,
                "recipe": arguments.recipe.stem,
                "gpus": arguments.gpus,
                "tokens_per_second": round(tokens, 1),
                "step_ms": round(step_ms, 3),
                "loss": records[-1]["loss"],
                "device_gib": peak_gib,
                "optimizer_bytes": records[-1]["optimizer_bytes"],
                "step_bytes": step_bytes(records),
                "valid_loss": evaluations[0]["loss"] if evaluations else None,
                "overrides": arguments.overrides,
            }
        ),
        flush=True,
    )


def main() -> int:
    arguments = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # leaves no hew behind
    folder = pathlib.Path(tempfile.mkdtemp(prefix="gpt2-hew-"))
    watch = MemoryWatch()
    try:
        records = run(arguments, folder)
        report(arguments, records, watch.stop())
    except (RunError, OSError) as error:
        print(f"gpt2_hew: {error}", file=sys.stderr)
        return 1
    finally:
        watch.stop()
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
