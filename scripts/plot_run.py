#!/usr/bin/env python3
"""Draws a run's metrics.jsonl: loss, learning rate, sparsity of each layer over the steps.

Usage: scripts/plot_run.py RUN [RUN …] [-o FILE.png]      (needs matplotlib)
A RUN is a run folder or a metrics.jsonl; several are drawn over one another. Without -o the picture
is RUN/metrics.png of the first.
"""

import argparse
import collections
import dataclasses
import json
import pathlib
import sys

# Past this many matrices a legend hides the curves.
MOST_LABELS = 12
COLOURS_IN_CYCLE = 10


@dataclasses.dataclass
class Curve:
    steps: list = dataclasses.field(default_factory=list)
    values: list = dataclasses.field(default_factory=list)

    def add(self, step, value):
        self.steps.append(step)
        self.values.append(value)


@dataclasses.dataclass
class Metrics:
    """What one metrics.jsonl says, as curves over steps."""

    name: str
    loss: Curve
    valid_loss: Curve
    lr: Curve
    sparsity: Curve  # mean over block-sparse matrices
    matrices: dict  # name → Curve


class MetricsError(Exception):
    """A file that is no metrics.jsonl; the text names the file and the line."""


def metrics_file(run):
    return run / "metrics.jsonl" if run.is_dir() else run


def read_lines(path):
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MetricsError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines):
                return  # still being written
            raise MetricsError(f"{path}:{number}: {error}") from error


def read_metrics(path, name):
    metrics = Metrics(name, Curve(), Curve(), Curve(), Curve(), collections.defaultdict(Curve))
    for number, entry in read_lines(path):
        try:
            step = entry["step"]
            if entry["kind"] == "train":
                metrics.loss.add(step, entry["loss"])
                metrics.lr.add(step, entry["lr"])
                metrics.sparsity.add(step, entry.get("sparsity", 0.0))
            elif entry["kind"] == "eval":
                metrics.valid_loss.add(step, entry["loss"])
            elif entry["kind"] == "refresh":
                for matrix, state in entry["weights"].items():
                    metrics.matrices[matrix].add(step, state["sparsity"])
        except (KeyError, TypeError, AttributeError) as error:
            raise MetricsError(f"{path}:{number}: not a line of metrics ({error!r})") from error
    if not metrics.loss.steps and not metrics.valid_loss.steps:
        raise MetricsError(f"{path}: has no loss in it")
    return metrics


def draw_loss(axes, runs):
    for number, run in enumerate(runs):
        colour = f"C{number % COLOURS_IN_CYCLE}"
        label = f"{run.name} train"
        axes.plot(run.loss.steps, run.loss.values, color=colour, alpha=0.5, label=label)
        axes.plot(
            run.valid_loss.steps,
            run.valid_loss.values,
            color=colour,
            marker="o",
            label=f"{run.name} valid",
        )
    axes.set_ylabel("loss (nats/token)")
    axes.legend(fontsize="small")


def draw_lr(axes, runs):
    for number, run in enumerate(runs):
        axes.plot(run.lr.steps, run.lr.values, color=f"C{number % COLOURS_IN_CYCLE}")
    axes.set_ylabel("learning rate")


def draw_sparsity(axes, runs):
    matrices = sum(len(run.matrices) for run in runs)
    for run in runs:
        prefix = f"{run.name} " if len(runs) > 1 else ""
        for name, curve in sorted(run.matrices.items()):
            # The mask stands from one refresh to the next, and from the last one on.
            steps = [*curve.steps, max(run.loss.steps[-1:] + curve.steps)]
            values = [*curve.values, curve.values[-1]]
            axes.step(steps, values, where="post", alpha=0.7, label=prefix + name)
        mean = run.sparsity
        axes.plot(mean.steps, mean.values, "k--", linewidth=1, label=prefix + "mean")
    axes.set_ylabel("sparsity (share of dead blocks)")
    axes.set_ylim(-0.02, 1.02)
    if matrices <= MOST_LABELS:
        axes.legend(fontsize="x-small")
    else:
        axes.set_title(f"{matrices} matrices, dashed: mean", fontsize="small")


def draw(runs, output):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(3, 1, figsize=(9, 11), sharex=True, layout="constrained")
    for axis, painter in zip(axes, (draw_loss, draw_lr, draw_sparsity), strict=True):
        painter(axis, runs)
        axis.grid(alpha=0.3)
    axes[-1].set_xlabel("step")
    figure.savefig(output, dpi=120)
    pyplot.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("runs", nargs="+", type=pathlib.Path, help="run folders or metrics.jsonl")
    parser.add_argument("-o", "--output", type=pathlib.Path, help="PNG to write")
    arguments = parser.parse_args()
    files = [metrics_file(run) for run in arguments.runs]
    output = arguments.output or files[0].with_name("metrics.png")
    try:
        draw([read_metrics(file, file.absolute().parent.name) for file in files], output)
    except (MetricsError, OSError) as error:
        print(f"plot_run: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        print(f"plot_run: {error}: pip install matplotlib", file=sys.stderr)
        return 1
    print(output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
