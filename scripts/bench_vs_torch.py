#!/usr/bin/env python3
"""PyTorch's block-sparse forward product on a GPU beside hew's, each as a speed-up over dense.

Per cell (shape, block size, sparsity), random blocks and data: PyTorch as it comes (the
faster of torch.nn.functional.linear with a BSR weight and bsr_dense_addmm with its defaults), its
best over a sweep of bsr_dense_addmm's own parameters and of the layouts of both dense matrices, the
best of those that take x as a layer has it, token after token (as hew does), and torch's dense
product, all in turns in one loop; medians between CUDA events around CUDA graphs, so that Python,
which takes longer than many a kernel, does not count (with --no-graphs it does). hew's side comes
from

    hew bench bsr --device cuda --shape all --products forward --output hew.jsonl

with the same --dtype, and --tokens where given. In tf32, matrices are float32 and PyTorch may round
its products (allow_tf32): its dense one does, its Triton kernel for BSR adds up float32 in float64.

Prints a Markdown table. Cells go in order of importance; those that do not fit into --minutes are
listed. Needs PyTorch with Triton, unless --torch names the records of an earlier run.
"""

import argparse
import concurrent.futures
import dataclasses
import itertools
import json
import math
import multiprocessing
import os
import pathlib
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from typing import NoReturn

from bench_vs_torch_table import (
    SHAPES,
    Cell,
    dtype_of,
    markdown,
    read_hew_records,
    read_torch_records,
    refuse,
    rows_of,
)

MAIN_SHAPES = 3
SPARSITIES = [0.9, 0.8, 0.5, 0.95]
MAIN_SPARSITIES = (0.9, 0.8)
MAX_ERROR = 1e-2  # relative, Frobenius: bf16 rounds by 2^-9
FINALISTS = 4


@dataclasses.dataclass(frozen=True)
class Choice:
    """Parameters of one call: how many tokens a tile has, Triton's, and the layouts."""

    tile: int
    stages: int
    warps: int
    group: int
    x_by_feature: bool = False  # x lies as [K, M] instead of [M, K]
    y_by_feature: bool = True  # y as [N, M], which bsr_dense_addmm makes by itself

    def meta(self, tokens: int) -> dict[str, int]:
        return {
            "SPLIT_N": tokens // self.tile,
            "GROUP_SIZE_ROW": self.group,
            "num_stages": self.stages,
            "num_warps": self.warps,
        }


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"got {text}, expected 1 or more")
    return value


def share(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"got {text}, expected a number ≥ 0 and < 1")
    return value


class Parser(argparse.ArgumentParser):
    """Whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        refuse(f"{message} (--help tells what there is)")


def parse_arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    numbers = {"type": positive, "nargs": "+"}
    parser.add_argument("--hew", type=pathlib.Path, help="JSON lines of hew bench bsr")
    parser.add_argument("--torch", type=pathlib.Path, help="records to use instead of a GPU")
    parser.add_argument("--output", type=pathlib.Path, help="takes PyTorch's records, JSON lines")
    parser.add_argument("--minutes", type=float, default=8, help="default %(default)s")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--dtype", choices=("bf16", "tf32"), default="bf16")
    parser.add_argument("--tokens", **numbers, help="M, in place of the shapes' own")
    parser.add_argument("--blocks", **numbers, default=[64, 128, 32])
    parser.add_argument("--sparsity", type=share, nargs="+", default=SPARSITIES)
    parser.add_argument("--tiles", **numbers, default=[64, 128, 256], help="tokens a tile")
    parser.add_argument("--stages", **numbers, default=[2, 3, 4, 5], help="num_stages")
    parser.add_argument("--warps", **numbers, default=[4, 8], help="num_warps")
    parser.add_argument("--groups", **numbers, default=[1, 4, 16], help="GROUP_SIZE_ROW")
    parser.add_argument(
        "--graphs",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="time CUDA graphs of the calls",
    )
    parser.add_argument("--repeats", type=positive, default=20, help="timed rounds of the finalists")
    parser.add_argument(
        "--jobs",
        type=positive,
        default=min(8, os.cpu_count() or 1),
        help="processes that compile kernels (default %(default)s)",
    )
    return parser.parse_args(words)


def cells_of(arguments: argparse.Namespace) -> list[Cell]:
    """Where the block divides the matrix, the most important first."""
    out = [
        Cell(shape, block, sparsity, tokens)
        for shape in arguments.shapes
        for block in arguments.blocks
        for sparsity in arguments.sparsity
        for tokens in arguments.tokens or [SHAPES[shape][0]]
        if SHAPES[shape][1] % block == 0 and SHAPES[shape][2] % block == 0
    ]
    shapes = list(SHAPES)

    def importance(cell: Cell) -> tuple:
        shape = shapes.index(cell.shape)
        return (
            cell.sparsity not in MAIN_SPARSITIES,
            shape >= MAIN_SHAPES,
            arguments.blocks.index(cell.block),
            shape,
            arguments.sparsity.index(cell.sparsity),
        )

    return sorted(out, key=importance)


def choices_of(arguments: argparse.Namespace, tokens: int) -> list[Choice]:
    grid = itertools.product(
        arguments.tiles, arguments.stages, arguments.warps, arguments.groups
    )
    return [Choice(*point) for point in grid if tokens % point[0] == 0]


def torch_type(dtype: str):
    import torch

    return {"bf16": torch.bfloat16, "tf32": torch.float32}[dtype]


def random_bsr(n: int, k: int, block: int, sparsity: float, dtype: str, device: str = "cuda"):
    """A weight [n, k] of random blocks, BSR."""
    import torch

    rows, cols = n // block, k // block
    live = max(1, rows * cols - math.floor(sparsity * rows * cols + 0.5))
    if live % 16 == 0:
        live -= 1  # Triton compiles anew for a stride that 16 divides, and would at some sparsities
    at = torch.randperm(rows * cols, device=device)[:live].sort().values
    crow = torch.zeros(rows + 1, dtype=torch.int64, device=device)
    crow[1:] = torch.bincount(at // cols, minlength=rows).cumsum(0)
    deviation = (k * live / (rows * cols)) ** -0.5
    values = torch.randn(live, block, block, device=device) * deviation
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "sparse BSR tensor support is in beta state"
        return torch.sparse_bsr_tensor(
            crow, at % cols, values.to(torch_type(dtype)), size=(n, k)
        )


class Operands:
    """x and y in both layouts, shared by all calls of a cell; bsr_dense_addmm sees transposes."""

    def __init__(self, x, n: int) -> None:
        import torch

        tokens = x.shape[0]
        self.x = {False: x.t(), True: x.t().contiguous()}  # [K, M], by feature or not
        self.y = {  # [N, M]
            False: torch.empty(tokens, n, dtype=x.dtype, device=x.device).t(),
            True: torch.empty(n, tokens, dtype=x.dtype, device=x.device),
        }

    def poison(self) -> None:
        for y in self.y.values():
            y.fill_(math.nan)


def call_of(operands: Operands, weight, choice: Choice) -> Callable:
    """Computes y and gives it back as [M, N]."""
    from torch.sparse._triton_ops import bsr_dense_addmm

    x, y = operands.x[choice.x_by_feature], operands.y[choice.y_by_feature]
    meta = choice.meta(x.shape[1])

    def run():
        bsr_dense_addmm(y, weight, x, beta=0, alpha=1, out=y, meta=meta)
        return y.t()

    return run


def compiles(tokens: int, block: int, choice: Choice, dtype: str) -> bool:
    """In a process of its own: fills Triton's cache by a small product with the same parameters."""
    import torch

    weight = random_bsr(2 * block, 2 * block, block, 0.5, dtype)
    x = torch.randn(tokens, 2 * block, dtype=torch_type(dtype), device="cuda")
    return runs(call_of(Operands(x, 2 * block), weight, choice))


def runs(call: Callable) -> bool:
    import torch

    try:
        call()
        torch.cuda.synchronize()
    except Exception as error:  # Triton has no common class: shared memory, registers, shapes
        if "illegal" in str(error) or "CUDA error" in str(error):
            raise
        return False
    return True


def captured(call: Callable, pool) -> Callable:
    """The call as a CUDA graph; as it is where it waits for the GPU, which a graph can't."""
    import torch

    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, pool=pool):
            call()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        torch.cuda.synchronize()
        print(f"bench_vs_torch: timed without a graph: {error}", file=sys.stderr)
        return call
    return graph.replay


def milliseconds(calls: dict, warmup: int, repeats: int, graphs: bool) -> dict:
    """Medians; the calls, which have run before, take turns."""
    import torch

    if graphs:
        torch.cuda.synchronize()
        pool = torch.cuda.graph_pool_handle()
        calls = {key: captured(call, pool) for key, call in calls.items()}
    marks: dict = {key: [] for key in calls}
    for turn in range(warmup + repeats):
        for key, run in calls.items():
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            run()
            end.record()
            if turn >= warmup:
                marks[key].append((start, end))
    torch.cuda.synchronize()
    return {key: statistics.median(a.elapsed_time(b) for a, b in m) for key, m in marks.items()}


def right(call: Callable, operands: Operands, reference) -> bool:
    operands.poison()
    error = (call().float() - reference).norm() / reference.norm()
    return bool(error <= MAX_ERROR)


class Sweep:
    """Times cells, and knows which parameters compile for which tokens and block."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.usable: dict[tuple[int, int], list[Choice]] = {}
        self.pool = None
        if arguments.jobs > 1:
            self.pool = concurrent.futures.ProcessPoolExecutor(
                arguments.jobs, mp_context=multiprocessing.get_context("spawn")
            )

    def close(self) -> None:
        if self.pool:
            self.pool.shutdown(cancel_futures=True)

    def prepare(self, tokens: int, block: int) -> list[Choice]:
        """The choices that compile, or might."""
        key = tokens, block
        if key not in self.usable:
            choices = choices_of(self.arguments, tokens)
            if self.pool:
                dtype = self.arguments.dtype
                jobs = [self.pool.submit(compiles, tokens, block, c, dtype) for c in choices]
                try:
                    choices = [c for c, job in zip(choices, jobs, strict=True) if job.result()]
                except concurrent.futures.BrokenExecutor:  # a compiler died: one after the other
                    self.pool = None
            self.usable[key] = choices
        return self.usable[key]

    def best_choices(self, operands, weight, choices: Iterable[Choice]) -> list[Choice]:
        """A few of the fastest, then the fastest with other layouts."""
        calls = {}
        for choice in choices:
            call = call_of(operands, weight, choice)
            if runs(call):
                calls[choice] = call
        if not calls:
            return []
        times = milliseconds(calls, warmup=1, repeats=5, graphs=self.arguments.graphs)
        ranked = sorted(times, key=times.get)[:FINALISTS]
        layouts = itertools.product((False, True), (False, True))
        return ranked + [
            dataclasses.replace(ranked[0], x_by_feature=x_side, y_by_feature=y_side)
            for x_side, y_side in layouts
            if (x_side, y_side) != (ranked[0].x_by_feature, ranked[0].y_by_feature)
        ]

    def measure(self, cell: Cell) -> dict:
        import torch
        from torch.nn.functional import linear
        from torch.sparse._triton_ops import bsr_dense_addmm

        tokens, n, k = cell.sizes
        usable = self.prepare(tokens, cell.block)
        dtype = self.arguments.dtype
        x = torch.randn(tokens, k, dtype=torch_type(dtype), device="cuda")
        weight = random_bsr(n, k, cell.block, cell.sparsity, dtype)
        dense = weight.to_dense()
        reference = linear(x, dense).float()
        operands = Operands(x, n)
        y = operands.y[True]

        def addmm():
            return bsr_dense_addmm(y, weight, x.t(), beta=0, alpha=1, out=y).t()

        defaults = {"linear": lambda: linear(x, weight), "addmm": addmm}
        calls = {name: call for name, call in defaults.items() if runs(call)}
        for choice in self.best_choices(operands, weight, usable):
            call = call_of(operands, weight, choice)
            if runs(call):
                calls[choice] = call
        calls = {key: call for key, call in calls.items() if right(call, operands, reference)}
        calls["dense"] = lambda: linear(x, dense)
        del reference
        times = milliseconds(
            calls, warmup=3, repeats=self.arguments.repeats, graphs=self.arguments.graphs
        )
        return {**record_of(cell, weight, times, tried=len(usable)), "dtype": dtype}


def record_of(cell: Cell, weight, times: dict, tried: int) -> dict:
    import torch
    import triton

    tokens, n, k = cell.sizes
    dense = times.pop("dense")
    best = min(times, key=times.get) if times else None
    by_token = [t for key, t in times.items() if not getattr(key, "x_by_feature", False)]
    return {
        "side": "torch",
        "product": "forward",
        "shape": cell.shape,
        "M": tokens,
        "N": n,
        "K": k,
        "block": cell.block,
        "wanted_sparsity": cell.sparsity,
        "sparsity": 1 - weight.values().numel() / (n * k),
        "dense_ms": dense,
        "linear_ms": times.get("linear"),
        "addmm_ms": times.get("addmm"),
        "best_ms": times.get(best),
        "token_ms": min(by_token, default=None),
        "best": dataclasses.asdict(best) if isinstance(best, Choice) else best,
        "tried": tried,
        "device": torch.cuda.get_device_name(),
        "versions": f"PyTorch {torch.__version__}, Triton {triton.__version__}",
    }


def require_torch() -> None:
    try:
        import torch
        import triton  # noqa: F401
    except ImportError as error:
        refuse(f"needs PyTorch with Triton, or --torch FILE: {error}")
    if not torch.cuda.is_available():
        refuse("PyTorch finds no GPU")


def measure_all(arguments: argparse.Namespace) -> tuple[list[dict], list[str]]:
    """Records, and what became of the cells without one."""
    require_torch()
    import torch

    warnings.filterwarnings("ignore", message=".*non-optimal triton kernel parameters.*")
    torch.manual_seed(1)
    torch.backends.cuda.matmul.allow_tf32 = arguments.dtype == "tf32"
    end = time.monotonic() + 60 * arguments.minutes
    records, missing = [], []
    output = arguments.output.open("w") if arguments.output else None
    sweep = Sweep(arguments)
    try:
        for cell in cells_of(arguments):
            if time.monotonic() > end:
                missing.append(f"{cell}: no time left")
                continue
            start = time.monotonic()
            try:
                records.append(sweep.measure(cell))
            except torch.OutOfMemoryError:
                missing.append(f"{cell}: out of memory")
                continue
            finally:
                torch.cuda.empty_cache()
            print(f"bench_vs_torch: {cell}: {time.monotonic() - start:.1f} s", file=sys.stderr)
            if output:
                print(json.dumps(records[-1]), file=output, flush=True)
    finally:
        sweep.close()
        if output:
            output.close()
    return records, missing


def main() -> int:
    arguments = parse_arguments()
    hew = read_hew_records(arguments.hew) if arguments.hew else []
    missing: list[str] = []
    if arguments.torch:
        records = read_torch_records(arguments.torch)
    else:
        records, missing = measure_all(arguments)
    settings = {f"{r['device']}, {r['versions']}. Forward, {dtype_of(r)}" for r in records}
    for setting in sorted(settings):
        print(f"{setting}; speed-ups over the dense product of the same run.\n")
    print(markdown(rows_of(records, hew)))
    if missing:
        print("\nNot timed:\n\n" + "\n".join(f"- {line}" for line in missing))
    return 0


if __name__ == "__main__":
    sys.exit(main())
