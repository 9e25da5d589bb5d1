"""Prune-and-grow (methods.md section 1) and supermask (section 2) in plain numpy, float64.

A linear regression Y = X·Wᵀ with loss 1/(2M) Σ (X·Wᵀ − Y)², trained by AdamW (Loshchilov and
Hutter 2019) with clipping by the global norm. Written from the methods' description, not from hew's
sources: dense arrays and masks, one statement a rule. Everything a test needs to follow the same
trajectory (W, X, Y, settings) is recorded with it, in tests/golden/{blast,supermask}_small.json.
"""

import argparse
import itertools
import json
import math
from pathlib import Path

import numpy as np

OUT, IN, BLOCK, TOKENS = 20, 28, 8, 17  # the last block row and column are ragged
ROWS, COLS = -(-OUT // BLOCK), -(-IN // BLOCK)
BLOCKS = ROWS * COLS
# Scores that decide a selection are equal or at least this far apart, relatively: then no order of
# summation can change a mask.
CLEAR_GAP = 1e-7

ADAMW = {
    "lr": 0.05,
    "beta1": 0.9,
    "beta2": 0.99,
    "eps": 1e-8,
    "weight_decay": 0.05,
    "clip_norm": 5.0,
}


def round_half_up(x):
    assert abs(x - math.floor(x) - 0.5) > 1e-9 or float(2 * x).is_integer(), f"{x} is near a half"
    return math.floor(x + 0.5)


def block_slices():
    """Block index -> its slice of W; the edge blocks are smaller."""
    for r in range(ROWS):
        for c in range(COLS):
            yield np.s_[r * BLOCK : (r + 1) * BLOCK, c * BLOCK : (c + 1) * BLOCK]


def block_norms(matrix):
    """Frobenius norm of each block over the root of its real elements."""
    return np.array([math.sqrt(np.mean(matrix[at] ** 2)) for at in block_slices()])


def expand(mask):
    """Block mask -> element mask of W."""
    out = np.zeros((OUT, IN))
    for live, at in zip(mask, block_slices(), strict=True):
        out[at] = live
    return out


def ranked(blocks, score):
    """Blocks, best first; of equal scores the lower index is the better."""
    order = sorted(blocks, key=lambda block: (-score[block], block))
    for a, b in itertools.pairwise(order):
        gap = abs(score[a] - score[b])
        assert gap == 0 or gap > CLEAR_GAP * abs(score[a]), "a selection hangs on rounding"
    return order


class AdamW:
    """Every block corrects its bias by its own age."""

    def __init__(self, shape):
        self.m = np.zeros(shape)
        self.v = np.zeros(shape)
        self.age = np.zeros(shape)

    def forget(self, elements):
        for state in (self.m, self.v, self.age):
            state[elements] = 0.0

    def step(self, value, gradient):
        """New value; `gradient` is already clipped."""
        b1, b2 = ADAMW["beta1"], ADAMW["beta2"]
        self.age += 1
        self.m = b1 * self.m + (1 - b1) * gradient
        self.v = b2 * self.v + (1 - b2) * gradient**2
        m_hat = self.m / (1 - b1**self.age)
        v_hat = self.v / (1 - b2**self.age)
        decayed = value * (1 - ADAMW["lr"] * ADAMW["weight_decay"])
        return decayed - ADAMW["lr"] * m_hat / (np.sqrt(v_hat) + ADAMW["eps"])


def clipped(gradients):
    """torch.nn.utils.clip_grad_norm_: factor min(1, clip_norm / (norm + 1e-6))."""
    norm = math.sqrt(sum(np.sum(g**2) for g in gradients))
    factor = min(1.0, ADAMW["clip_norm"] / (norm + 1e-6))
    return [g * factor for g in gradients]


def squared_error(x, y, weight):
    """Loss and its dense gradient by the weight."""
    error = x @ weight.T - y
    return 0.5 * np.sum(error**2) / len(x), error.T @ x / len(x)


# --- 1. prune and grow ----------------------------------------------------------------------------


def cubic(rule, step):
    if step < rule["begin"]:
        return rule["initial"]
    if step > rule["end"]:
        return rule["final"]
    x = (step - rule["begin"]) / (rule["end"] - rule["begin"])
    return rule["final"] + (rule["initial"] - rule["final"]) * (1 - x) ** 3


def wanted_blocks(rule, step):
    return max(1, BLOCKS - round_half_up(cubic(rule, step) * BLOCKS))


def refreshes(rule, step):
    since = step - rule["begin"]
    on_grid = 0 <= since and step < rule["end"] and since % rule["every"] == 0
    return on_grid or step == rule["end"]


def swap_fraction(rule, step):
    x = (step - rule["begin"]) / (rule["end"] - rule["begin"])
    return rule["swap_fraction"] / 2 * (1 + math.cos(math.pi * x))


def new_mask(rule, step, mask, weight, gradient):
    """Step 2 of a refresh: K, D, and the regrow rule."""
    k = wanted_blocks(rule, step)
    growth = block_norms(gradient)
    live = [block for block in range(BLOCKS) if mask[block]]
    kept = ranked(live, block_norms(weight))[:k]
    if len(kept) < k:  # the schedule densifies
        dead = [block for block in range(BLOCKS) if not mask[block]]
        order = ranked(dead, growth) if rule["growth"] == "gradient" else dead
        kept += order[: k - len(kept)]
    grown = []
    if rule["growth"] == "gradient" and step < rule["end"]:
        grown = [block for block in ranked(range(BLOCKS), growth)[:k] if block not in kept]
    if rule["regrow"] == "none":
        grown = []
    if rule["regrow"] == "swap":
        count = min(len(grown), math.floor(swap_fraction(rule, step) * len(kept)))
        grown = grown[:count]
        kept = kept[: len(kept) - count]
    out = np.zeros(BLOCKS, dtype=int)
    out[kept + grown] = 1
    return out


def train_prune_and_grow(rule, steps, start):
    """Before the first refresh the mask is the magnitude's at the schedule's first sparsity."""
    x, y, weight = start["X"], start["Y"], start["W"].copy()
    mask = np.zeros(BLOCKS, dtype=int)
    mask[ranked(range(BLOCKS), block_norms(weight))[: wanted_blocks(rule, 0)]] = 1
    weight *= expand(mask)
    record = {"rule": rule, "initial_mask": mask.tolist(), "losses": [], "refreshes": []}
    adamw = AdamW(weight.shape)
    for step in range(steps):
        loss, gradient = squared_error(x, y, weight)
        record["losses"].append(loss)
        if refreshes(rule, step):
            fresh = new_mask(rule, step, mask, weight, gradient)
            moved = expand(fresh != mask) == 1  # dropped or grown: nothing is remembered
            weight[moved] = 0.0
            adamw.forget(moved)
            mask = fresh
            record["refreshes"].append(
                {"step": step, "wanted": wanted_blocks(rule, step), "mask": mask.tolist()}
            )
        live = expand(mask)
        (gradient,) = clipped([gradient * live])
        weight = adamw.step(weight, gradient) * live
    record["final_W"] = weight.tolist()
    return record


# --- 2. supermask ---------------------------------------------------------------------------------


def kept_blocks(blocks, sparsity):
    return blocks - round_half_up(sparsity * (blocks - 1))


def supermask(scores, sparsity):
    mask = np.zeros(BLOCKS, dtype=int)
    mask[ranked(range(BLOCKS), scores.ravel())[: kept_blocks(BLOCKS, sparsity)]] = 1
    return mask


def train_supermask(sparsity, freeze_at, steps, start):
    """From step `freeze_at` on (None: never) scores stand still and dead blocks are dropped."""
    x, y = start["X"], start["Y"]
    weight, scores = start["W"].copy(), start["S"].copy()
    record = {"sparsity": sparsity, "freeze_at": freeze_at, "steps": []}
    weight_adamw, score_adamw = AdamW(weight.shape), AdamW(scores.shape)
    for step in range(steps):
        frozen = freeze_at is not None and step >= freeze_at
        mask = supermask(scores, sparsity)
        live = expand(mask)
        if frozen:
            weight = weight * live
        loss, gradient = squared_error(x, y, weight * live)
        by_block = np.array([np.sum((gradient * weight)[at]) for at in block_slices()])
        if frozen:
            (weight_gradient,) = clipped([gradient * live])
            weight = weight_adamw.step(weight, weight_gradient) * live
        else:
            weight_gradient, score_gradient = clipped(
                [gradient * live, by_block.reshape(ROWS, COLS)]
            )
            weight = weight_adamw.step(weight, weight_gradient)
            scores = score_adamw.step(scores, score_gradient)
        record["steps"].append(
            {"loss": loss, "mask": mask.tolist(), "S": scores.tolist(), "W_sum": np.sum(weight)}
        )
    record["final_W"] = weight.tolist()
    return record


# Of a 3072×768 matrix, as the published models count: (block, sparsity) -> kept blocks.
KEPT_BLOCKS = {
    (16, 0.7): 2765,
    (16, 0.8): 1844,
    (16, 0.9): 922,
    (32, 0.7): 692,
    (32, 0.8): 462,
    (32, 0.9): 231,
    (64, 0.7): 173,
    (64, 0.8): 116,
    (64, 0.9): 58,
}


def kept_block_table():
    rows = []
    for (block, sparsity), kept in KEPT_BLOCKS.items():
        blocks = (3072 // block) * (768 // block)
        assert kept_blocks(blocks, sparsity) == kept
        rows.append({"blocks": blocks, "sparsity": sparsity, "kept": kept})
    return rows


# --- the recorded cases ---------------------------------------------------------------------------


def start_values():
    random = np.random.RandomState(20)  # its stream is frozen across numpy versions
    weight = 0.3 * random.standard_normal((OUT, IN))
    for at in list(block_slices())[:6:2]:
        weight[at] *= 0.2
    for tied in (np.s_[8:16, 0:8], np.s_[8:16, 16:24]):
        weight[tied] = weight[0:8, 0:8]  # three equal scores, where the first selection ends
    x = random.standard_normal((TOKENS, IN))
    target = 0.4 * random.standard_normal((OUT, IN)) * expand(random.uniform(size=BLOCKS) < 0.5)
    y = x @ target.T + 0.1 * random.standard_normal((TOKENS, OUT))
    scores = random.uniform(-1, 1, (ROWS, COLS)) / math.sqrt(COLS)
    last_kept, first_dropped = np.argsort(-scores.ravel())[5:7]
    scores.flat[first_dropped] = scores.flat[last_kept]  # equal, where the first selection ends
    return {"W": weight, "X": x, "Y": y, "S": scores}


def rule(initial, final, regrow, growth="gradient"):
    return {
        "initial": initial,
        "final": final,
        "begin": 2,
        "end": 20,  # not a multiple of `every` after `begin`
        "every": 4,
        "regrow": regrow,
        "growth": growth,
        "swap_fraction": 0.6,
    }


def recorded(start, keys, cases):
    common = {key: start[key].tolist() for key in keys}
    return {"block": BLOCK, "adamw": ADAMW} | common | {"cases": cases}


def prune_and_grow_golden():
    start = start_values()
    rules = {
        "union": rule(0.2, 0.75, "union"),
        "swap": rule(0.2, 0.75, "swap"),
        "none": rule(0.2, 0.75, "none"),
        "densify": rule(0.7, 0.3, "none"),
        "densify_by_index": rule(0.7, 0.3, "none", growth="none"),
    }
    cases = {name: train_prune_and_grow(r, 24, start) for name, r in rules.items()}
    return recorded(start, ["W", "X", "Y"], cases)


def supermask_golden():
    start = start_values()
    cases = {
        "constant": train_supermask(0.5, None, 12, start),
        "freeze": train_supermask(0.5, 6, 12, start),
    }
    table = {"kept_blocks_3072x768": kept_block_table()}
    return recorded(start, ["W", "X", "Y", "S"], cases) | table


def make(folder):
    for name, golden in (
        ("blast_small", prune_and_grow_golden()),
        ("supermask_small", supermask_golden()),
    ):
        (folder / f"{name}.json").write_text(json.dumps(golden) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "folder", type=Path, nargs="?", default=Path(__file__).parents[1] / "golden"
    )
    make(parser.parse_args().folder)


if __name__ == "__main__":
    main()
