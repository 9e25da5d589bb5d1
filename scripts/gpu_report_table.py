#!/usr/bin/env python3
"""Makes the Markdown page of scripts/gpu_report.sh from the logs in its folder, to standard output.

A figure whose command failed says so, one whose command was not run says that; nothing is left out.
"""

import argparse
import dataclasses
import json
import pathlib
import re
import sys
import xml.etree.ElementTree

TIMED_OUT = (124, 137)
KERNEL_LINES = 200  # of `hew bench kernels` that the page shows
# Tokens a second that compiled PyTorch reached beforehand on an H100, and what hew must reach of
# PyTorch in the same run.
SIZES = {"124m": (470e3, "1.05x"), "774m": (83.1e3, "1.05x"), "1558m": (39.3e3, "–")}
MEMORY_LIMIT = "≤ 0.8x"
NOTHING = "–"


@dataclasses.dataclass
class Item:
    """What became of one command: its records, or the words for the table."""

    records: list[dict]
    words: str  # empty: it ran
    text: str = ""


class Logs:
    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder

    def item(self, name: str) -> Item:
        status_file = self.folder / f"{name}.status"
        if not status_file.exists():
            return Item([], "not run")
        status, seconds, _ = status_file.read_text().split()
        out = self.folder / f"{name}.out"
        text = out.read_text(errors="replace") if out.exists() else ""
        records = []
        for line in text.splitlines():
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(record, dict):
                records.append(record)
        words = ""
        if int(status) in TIMED_OUT:
            words = f"failed: out of time after {seconds} s"
        elif int(status) != 0:
            words = f"failed: status {status}"
        return Item(records, words, text)

    def slower(self, *names: str) -> Item:
        """The item of fewest tokens a second; a failed one counts before all."""
        items = [item for item in map(self.item, names) if item.words != "not run"]
        if not items:
            return Item([], "not run")
        for item in items:
            if item.words or not item.records:
                return Item([], item.words or "failed: no figures")
        return min(items, key=lambda item: item.records[-1]["tokens_per_second"])

    def commands(self) -> list[str]:
        order = sorted(self.folder.glob("*.status"), key=lambda file: file.stat().st_mtime)
        lines = []
        for file in order:
            command = file.with_suffix(".command").read_text().strip()
            lines.append(f"    {command}    # {file.read_text().split()[2]}")
        return lines


def row(figure: str, hew: str, torch: str, ratio: str, wanted: str) -> str:
    return f"| {figure} | {hew} | {torch} | {ratio} | {wanted} |"


def tests_row(logs: Logs) -> str:
    item = logs.item("tests")
    words = item.words
    report = logs.folder / "tests.xml"
    if report.exists() and report.stat().st_size:
        suite = xml.etree.ElementTree.parse(report).getroot()
        total, failed = int(suite.get("tests", 0)), int(suite.get("failures", 0))
        skipped = int(suite.get("skipped", 0)) + int(suite.get("disabled", 0))
        counts = f"{total - failed - skipped} passed, {failed} failed, {skipped} skipped"
        words = f"{words}; {counts}" if words else counts
    return row("tests of label cuda", words, NOTHING, NOTHING, "all pass, none skipped")


def rate(item: Item) -> str:
    if item.words or not item.records:
        return item.words or "failed: no figures"
    record = item.records[-1]
    return f"{record['tokens_per_second'] / 1e3:.1f}k ({record['step_ms']:.1f} ms)"


def ratio_of(ours: Item, theirs: Item, key: str) -> str:
    if ours.words or theirs.words or not ours.records or not theirs.records:
        return NOTHING
    above, below = ours.records[-1].get(key), theirs.records[-1].get(key)
    return f"{above / below:.3f}x" if above and below else NOTHING


def gib(item: Item, key: str = "device_gib") -> str:
    if item.words or not item.records:
        return item.words or "failed: no figures"
    value = item.records[-1].get(key)
    return f"{value:.2f} GiB" if value else "not known"


def training_rows(logs: Logs) -> list[str]:
    rows = []
    for size, (measured, wanted) in SIZES.items():
        ours = logs.slower(f"train-{size}", f"train-{size}-again")
        theirs = logs.item(f"torch-{size}")
        opponent = rate(theirs)
        if theirs.records and not theirs.words:
            record = theirs.records[-1]
            opponent += f", {100 * record['mfu']:.1f} % of 989 TFLOP/s"
            opponent += (
                f", {100 * record['tokens_per_second'] / measured:.1f} % of {measured / 1e3:g}k"
            )
        rows.append(
            row(
                f"tokens/s, dense GPT-2 {size.upper()}, T=1024",
                rate(ours),
                opponent,
                ratio_of(ours, theirs, "tokens_per_second"),
                wanted,
            )
        )
        memory = gib(theirs)
        if theirs.records and not theirs.words:
            memory += f" ({gib(theirs, 'allocated_gib')} allocated)"
        ratio = ratio_of(ours, theirs, "device_gib")
        limit = MEMORY_LIMIT if size != "1558m" else NOTHING
        rows.append(
            row(f"peak memory of the device, {size.upper()}", gib(ours), memory, ratio, limit)
        )
    return rows


def hew_attention_ms(text: str, head: int, tokens: int) -> float | None:
    """From the lines of `hew bench kernels`: attention, D=…, T=…, then milliseconds."""
    number = rf"attention(?=.*\bD ?= ?{head}\b)(?=.*\bT ?= ?{tokens}\b).*?([0-9.]+) ms"
    found = re.search(number, text)
    return float(found.group(1)) if found else None


def attention_rows(logs: Logs) -> list[str]:
    theirs = logs.item("attention")
    best = [record for record in theirs.records if record.get("best")]
    if not best:
        words = theirs.words or "failed: no figures"
        return [row("attention, forward and backward", NOTHING, words, NOTHING, "1.0x")]
    rows = []
    for name, words in {"attention-hew": "", "attention-hew-same": ", PyTorch's cuDNN"}.items():
        ours = logs.item(name)
        for record in best:
            torch_ms = record["forward_backward_ms"]
            hew_ms = hew_attention_ms(ours.text, record["head"], record["tokens"])
            rows.append(
                row(
                    f"attention, forward and backward, D={record['head']}, T={record['tokens']}"
                    + words,
                    f"{hew_ms:.3f} ms" if hew_ms else ours.words or "not reported",
                    f"{torch_ms:.3f} ms ({record['backend']})",
                    f"{torch_ms / hew_ms:.3f}x" if hew_ms else NOTHING,
                    "1.0x",
                )
            )
    return rows


def scaling_rows(logs: Logs) -> list[str]:
    # Two GPUs that wait for each other go at the pace of the slower one.
    one = logs.slower("scaling-1", "scaling-1-other")
    two = logs.item("scaling-2")
    nccl = logs.item("scaling-2-nccl")
    sharded = logs.item("scaling-2-sharded")
    rows = [
        row(f"tokens/s, 774M on {gpu} alone, B=16", rate(logs.item(name)), NOTHING, NOTHING, NOTHING)
        for gpu, name in (("GPU 0", "scaling-1"), ("GPU 1", "scaling-1-other"))
    ]
    speed_up = ratio_of(two, one, "tokens_per_second")
    figure = "774M on 2 GPUs, B=16 each, over the slower of them alone"
    rows.append(row(figure, rate(two), NOTHING, speed_up, "1.90x"))
    speed_up = ratio_of(nccl, one, "tokens_per_second")
    rows.append(row("the same with run.peer_copies: false", rate(nccl), NOTHING, speed_up, NOTHING))
    speed_up = ratio_of(sharded, one, "tokens_per_second")
    rows.append(row("the same with ZeRO-1", rate(sharded), NOTHING, speed_up, NOTHING))
    memory = ratio_of(sharded, two, "optimizer_bytes")
    figure = "optimizer memory a GPU, ZeRO-1 on 2 GPUs"
    state = sharded.records[-1].get("optimizer_bytes") if sharded.records else None
    text = f"{state / 2**30:.2f} GiB" if state else sharded.words or "not reported"
    rows.append(row(figure, text, NOTHING, memory, "≤ 0.52x"))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path, help="--work of gpu_report.sh")
    logs = Logs(parser.parse_args().folder)
    if not logs.folder.is_dir():
        sys.exit(f"{logs.folder}: no such folder")
    machine = logs.folder / "machine.txt"
    kernels = logs.item("kernels")
    print("# Measured on a GPU\n")
    print(
        "Written by `scripts/gpu_report.sh`. A ratio is hew over PyTorch: above 1x hew is faster,"
    )
    print("and of memory it takes less below 1x. Memory is what nvidia-smi shows as used.\n")
    for line in machine.read_text().splitlines() if machine.exists() else []:
        print(f"- {line}")
    print("\n| figure | hew | PyTorch | ratio | asked for |\n|---|---|---|---|---|")
    build = logs.item("build")
    if build.words != "not run":
        print(row("build, preset cuda", build.words or "done", NOTHING, NOTHING, "done"))
    print(tests_row(logs))
    for line in [*training_rows(logs), *attention_rows(logs), *scaling_rows(logs)]:
        print(line)
    lines = kernels.text.splitlines()
    words = kernels.words or f"{len(lines)} lines, below"
    print(row("own kernels against the copy bandwidth", words, NOTHING, NOTHING, "85 %"))
    print("\n## Commands, in this order\n")
    print("\n".join(logs.commands()))
    if lines:
        print("\n## hew bench kernels\n\n```")
        print("\n".join(lines[:KERNEL_LINES]))
        print("```")


if __name__ == "__main__":
    main()
