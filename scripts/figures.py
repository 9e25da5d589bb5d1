"""Markdown tables and line plots for scripts/accuracy_table.py and scripts/speed_table.py."""

import collections
import dataclasses
import pathlib
import shlex
import statistics
import sys

NOTHING = "–"


@dataclasses.dataclass
class Line:
    """A curve of a plot; spread is half the height of the error bars, or empty. Curves of one
    family have one colour and a marker each."""

    label: str
    x: list
    y: list
    spread: list = dataclasses.field(default_factory=list)
    family: str = ""


def mean_and_spread(values):
    """Mean, and the sample's standard deviation: None of a single value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def command(script):
    """The command line, to be put below what it made."""
    return shlex.join([f"scripts/{pathlib.Path(script).name}", *sys.argv[1:]])


def percent(sparsity):
    return f"{100 * sparsity:g} %"


def table(head, rows):
    """A Markdown table; the first column is to the left, all others to the right."""
    lines = [head, ["---"] + ["--:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def plot(path, lines, *, x_label, y_label, title="", log_x=False, level=None):
    """Draws a PNG. Returns what to say of it: without matplotlib there is none. `level` is a
    (label, y) for a dashed line across."""
    try:
        import matplotlib
    except ModuleNotFoundError:
        return "no plot: matplotlib is missing"
    if not any(line.x for line in lines):
        return "no plot: nothing was measured"
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    drawn = collections.Counter()  # of each family
    colours = {}
    for line in lines:
        family = line.family or line.label
        colour = colours.setdefault(family, f"C{len(colours)}")
        marker = "os^Dv"[drawn[family] % 5]
        drawn[family] += 1
        axes.errorbar(line.x, line.y, yerr=line.spread if any(line.spread) else None, color=colour,
                      marker=marker, capsize=3, label=line.label)
    if level is not None:
        axes.axhline(level[1], color="k", linestyle="--", linewidth=1, label=level[0])
    if log_x:
        axes.set_xscale("log", base=2)
        ticks = sorted({x for line in lines for x in line.x})
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend(bbox_to_anchor=(1.02, 1), loc="upper left", fontsize="small")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return str(path)
