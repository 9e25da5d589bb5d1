"""Spartan (Tai, Tian and Lim, NeurIPS 2022) on blocks in plain numpy, float64.

The regression, optimizer and block grid of blast_reference.py. Written from the paper's algorithms,
not from hew's sources: the soft mask by Sinkhorn's alternation on the n × 2 transport plan, its
Jacobian as a matrix. Recorded in tests/golden/spartan_small.json, weights of every step
as their product with the first token.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from blast_reference import (
    BLOCKS,
    AdamW,
    block_norms,
    block_slices,
    clipped,
    expand,
    ranked,
    recorded,
    round_half_up,
    squared_error,
    start_values,
)

MARGINAL_ERROR = 1e-14  # of the plan's column sums, relative
MOST_ROUNDS = 1_000_000


def sinkhorn(logits, keep):
    """Share of each row that goes to the first of two columns, with sums keep and n - keep.

    Entropic transport with kernel exp(logits) for the first column and 1 for the second; all rows
    have mass 1 (equal costs).
    """
    n = len(logits)
    if keep == n:
        return np.ones(n)
    kernel = np.stack([np.exp(logits - np.max(logits)), np.ones(n)], axis=1)
    wanted = np.array([keep, n - keep], dtype=float)
    column = np.ones(2)
    for _ in range(MOST_ROUNDS):
        row = 1 / (kernel @ column)
        sums = column * (kernel.T @ row)
        if np.all(np.abs(sums - wanted) <= MARGINAL_ERROR * wanted):
            return row * kernel[:, 0] * column[0]
        column = column * wanted / sums
    raise AssertionError("Sinkhorn's alternation has not converged")


def soft_mask(norms, keep, sharpness):
    """The mask, and its Jacobian by the norms for a slope that is held fixed."""
    deviation = np.std(norms)
    slope = sharpness / deviation if deviation > 0 else 0.0
    mask = sinkhorn(slope * (norms - np.mean(norms)), keep)
    spread = mask * (1 - mask)
    total = np.sum(spread)
    jacobian = np.zeros((len(mask), len(mask)))
    if total > 0:
        jacobian = slope * (np.diag(spread) - np.outer(spread, spread) / total)
    return mask, jacobian


def weight_gradient(weight, gradient, mask, jacobian):
    """Of W, where `gradient` is that of W ⊙ expand(mask)."""
    norms = block_norms(weight)
    by_mask = np.array([np.sum((gradient * weight)[at]) for at in block_slices()])
    by_norm = jacobian.T @ by_mask
    out = gradient * expand(mask)
    for j, at in enumerate(block_slices()):
        out[at] += by_norm[j] * weight[at] / (norms[j] * weight[at].size)
    return out


def sparsity_at(case, step):
    x = min(1.0, step / case["warm_up"]) if case["warm_up"] > 0 else 1.0
    return case["initial"] + (case["final"] - case["initial"]) * x


def sharpness_at(case, step):
    low, high = case["sharpness"]
    return low + (high - low) * min(1.0, step / case["sharpness_end"])


def selection(case, step, weight):
    """Live blocks, soft mask and its Jacobian in the forward of `step`."""
    norms = block_norms(weight)
    keep = max(1, BLOCKS - round_half_up(sparsity_at(case, step) * BLOCKS))
    live = np.zeros(BLOCKS, dtype=int)
    live[ranked(range(BLOCKS), norms)[:keep]] = 1
    return live, *soft_mask(norms, keep, sharpness_at(case, step))


def train(case, steps, start):
    """From step `freeze_at` on (None: never) masks stand still and dead blocks are dropped."""
    x, y, weight = start["X"], start["Y"], start["W"].copy()
    adamw = AdamW(weight.shape)
    record = {"case": case, "steps": []}
    live = None
    for step in range(steps):
        frozen = case["freeze_at"] is not None and step >= case["freeze_at"]
        entry = {}
        if not frozen or step == case["freeze_at"]:
            live, mask, jacobian = selection(case, step, weight)
            entry["soft"] = mask.tolist()
        if frozen and step == case["freeze_at"]:
            weight = weight * expand(live * mask)
        if frozen:
            loss, gradient = squared_error(x, y, weight)
            (gradient,) = clipped([gradient * expand(live)])
            weight = adamw.step(weight, gradient) * expand(live)
        else:
            loss, gradient = squared_error(x, y, weight * expand(live * mask))
            (gradient,) = clipped([weight_gradient(weight, gradient, mask, jacobian)])
            weight = adamw.step(weight, gradient)
        entry |= {"loss": loss, "mask": live.tolist(), "W_x0": (weight @ x[0]).tolist()}
        record["steps"].append(entry)
    record["final_W"] = weight.tolist()
    return record


def case(**changes):
    base = {
        "initial": 0.0,
        "final": 0.7,
        "warm_up": 5,
        "sharpness": [1.0, 20.0],
        "sharpness_end": 10,
        "freeze_at": None,
    }
    return base | changes


def golden():
    start = start_values()
    cases = {
        "warm_up": case(),
        "constant": case(initial=0.6, final=0.6, warm_up=0),
        "freeze": case(freeze_at=9),
    }
    trained = {name: train(c, 14, start) for name, c in cases.items()}
    return recorded(start, ["W", "X", "Y"], trained)


def make(folder):
    (folder / "spartan_small.json").write_text(json.dumps(golden()) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "folder", type=Path, nargs="?", default=Path(__file__).parents[1] / "golden"
    )
    make(parser.parse_args().folder)


if __name__ == "__main__":
    main()
