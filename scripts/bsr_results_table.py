#!/usr/bin/env python3
"""Markdown tables of what `hew bench bsr --output FILE` measured: means, then every cell.

Usage: scripts/bsr_results_table.py FILE.jsonl [FILE.jsonl …]
A cell reads `milliseconds · times as fast as the dense product · share of the roofline`.
"""

import json
import math
import sys

PRODUCTS = ("forward", "input_gradient", "weight_gradient")


def add_records(cells, lines):
    for line in lines:
        record = json.loads(line)
        if record["product"] in PRODUCTS and record["pattern"] == "random":
            key = (record["shape"], record["block"], record["wanted_sparsity"])
            cells.setdefault(key, {})[record["product"]] = record


def records_of(paths):
    """The last record of each cell, in the order of the cells."""
    cells = {}
    for path in paths:
        with open(path, encoding="utf-8") as lines:
            try:
                add_records(cells, lines)
            except (ValueError, KeyError, TypeError):
                sys.exit(f"{path}: not what `hew bench bsr --output` writes")
    return cells


def geometric_mean(values):
    values = list(values)
    return math.exp(sum(map(math.log, values)) / len(values)) if values else math.nan


def means(cells):
    blocks = sorted({block for _, block, _ in cells}, reverse=True)
    yield "| geometric mean | " + " | ".join(f"b={b}" for b in blocks) + " |"
    yield "|---|" + "---|" * len(blocks)
    for product in PRODUCTS:
        row = []
        for block in blocks:
            of_block = [c[product] for key, c in cells.items() if key[1] == block and product in c]
            if not of_block:
                row.append("")
                continue
            share = geometric_mean(r["roofline"] for r in of_block)
            speedup = geometric_mean(r["speedup"] for r in of_block)
            worst = min(r["speedup"] for r in of_block)
            row.append(f"{100 * share:.1f} %, {speedup:.2f}× (worst {worst:.2f}×)")
        yield f"| {product.replace('_', ' ')} | " + " | ".join(row) + " |"


def table(cells):
    yield "| shape | b | sparsity | dense ms | forward | input gradient | weight gradient |"
    yield "|---|---|---|---|---|---|---|"
    for (shape, block, sparsity), cell in cells.items():
        dense = " ".join(f"{cell[p]['dense_ms']:.3f}" for p in PRODUCTS if p in cell)
        columns = [
            f"{r['ms']:.3f} · {r['speedup']:.2f}× · {100 * r['roofline']:.0f} %" if r else ""
            for r in (cell.get(p) for p in PRODUCTS)
        ]
        yield f"| {shape} | {block} | {sparsity:g} | {dense} | " + " | ".join(columns) + " |"


def main():
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__.strip())
    try:
        cells = records_of(sys.argv[1:])
    except OSError as error:
        sys.exit(f"{error.filename}: {error.strerror}")
    print("\n".join([*means(cells), "", *table(cells)]))


if __name__ == "__main__":
    main()
