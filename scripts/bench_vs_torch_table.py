"""The table of scripts/bench_vs_torch.py: its cells, its records, and how they become Markdown."""

import dataclasses
import json
import pathlib
import statistics
import sys
from collections.abc import Iterable
from typing import NoReturn

SHAPES = {  # M, N, K, the most telling first; those of hew bench bsr --shape
    "vitb_fc1": (50432, 3072, 768),
    "gpt2xl_fc1": (16384, 6400, 1600),
    "llama_up": (8192, 14336, 4096),
    "vitb_fc2": (50432, 768, 3072),
    "llama_down": (8192, 4096, 14336),
}


@dataclasses.dataclass(frozen=True)
class Cell:
    shape: str
    block: int
    sparsity: float
    tokens: int | None = None  # in place of the shape's own

    @property
    def sizes(self) -> tuple[int, int, int]:
        m, n, k = SHAPES[self.shape]
        return self.tokens or m, n, k

    @property
    def name(self) -> str:
        """The shape, and its number of tokens if that is not its own."""
        own = SHAPES[self.shape][0]
        return self.shape if self.tokens in (None, own) else f"{self.shape} M={self.tokens}"

    def __str__(self) -> str:
        return f"{self.name} b={self.block} {self.sparsity:g}"


def refuse(message: str) -> NoReturn:
    print(f"bench_vs_torch: {message}", file=sys.stderr)
    sys.exit(2)


def read_records(path: pathlib.Path) -> list[dict]:
    records = []
    try:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if line.startswith("{"):  # hew may have printed a table around them
                records.append(json.loads(line))
    except OSError as error:
        refuse(f"{path}: {error.strerror}")
    except UnicodeDecodeError:
        refuse(f"{path}: not a text file")
    except json.JSONDecodeError as error:
        refuse(f"{path}:{number}: {error}")
    return records


def read_torch_records(path: pathlib.Path) -> list[dict]:
    """At least one, each of a known shape and with all that the table asks for."""
    needed = {"block", "wanted_sparsity", "dense_ms", "linear_ms", "addmm_ms", "best_ms", "best"}
    needed |= {"device", "versions"}
    records = read_records(path)
    for record in records:
        if record.get("shape") not in SHAPES or not needed <= record.keys():
            refuse(f"{path}: not PyTorch's record of a cell: {record}"[:120])
    if not records:
        refuse(f"{path}: no records")
    return records


def read_hew_records(path: pathlib.Path) -> list[dict]:
    """Each with all that the table asks for."""
    needed = {"product", "shape", "block", "wanted_sparsity", "dtype", "pattern", "speedup"}
    records = read_records(path)
    for record in records:
        if not needed <= record.keys() or not isinstance(record["speedup"], int | float):
            refuse(f"{path}: not a record of hew bench bsr: {record}"[:120])
    return records


def key_of(record: dict) -> tuple:
    """The arguments of Cell."""
    return tuple(record.get(name) for name in ("shape", "block", "wanted_sparsity", "M"))


def dtype_of(record: dict) -> str:
    return record.get("dtype", "bf16")


def speedups_of_hew(records: list[dict], dtype: str) -> dict[tuple, float]:
    """By key_of; of the forward product on a GPU, random blocks."""
    wanted = {"product": "forward", "dtype": dtype, "pattern": "random"}
    return {
        key_of(r): r["speedup"]
        for r in records
        if all(r.get(name) == value for name, value in wanted.items())
    }


@dataclasses.dataclass
class Row:
    cell: Cell
    plain: float | None  # speed-ups over dense
    best: float | None
    token: float | None  # the best that takes x token after token; older records lack it
    hew: float | None
    parameters: str

    @property
    def ratio(self) -> float | None:
        return self.hew / self.best if self.hew and self.best else None

    @property
    def token_ratio(self) -> float | None:
        return self.hew / self.token if self.hew and self.token else None


def rows_of(torch_records: list[dict], hew_records: list[dict]) -> list[Row]:
    hew = {d: speedups_of_hew(hew_records, d) for d in set(map(dtype_of, torch_records))}
    rows = []
    for record in torch_records:
        plain = [record[name] for name in ("linear_ms", "addmm_ms") if record[name]]
        best, parameters = record["best_ms"], record["best"]
        token = record.get("token_ms")
        if isinstance(parameters, dict):
            x, y = ("by feature" if parameters[f"{o}_by_feature"] else "by token" for o in "xy")
            numbers = "/".join(str(parameters[n]) for n in ("tile", "stages", "warps", "group"))
            parameters = f"{numbers}, x {x}, y {y}"
        rows.append(
            Row(
                Cell(*key_of(record)),
                record["dense_ms"] / min(plain) if plain else None,
                record["dense_ms"] / best if best else None,
                record["dense_ms"] / token if token else None,
                hew[dtype_of(record)].get(key_of(record)),
                parameters or "none works",
            )
        )
    shapes = list(SHAPES)

    def order(row: Row) -> tuple:
        cell = row.cell
        return shapes.index(cell.shape), cell.block, cell.sparsity, cell.sizes[0]

    return sorted(rows, key=order)


def times(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}×"


def mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value]
    return statistics.geometric_mean(known) if known else None


def worst_of(rows: list[Row], ratio: str) -> str:
    known = [(getattr(r, ratio), r.cell) for r in rows if getattr(r, ratio)]
    if not known:
        return "–"
    value, cell = min(known, key=lambda pair: pair[0])
    return f"{times(value)} {cell.name} {cell.sparsity:g}"


def markdown(rows: list[Row]) -> str:
    lines = [
        "| shape | b | sparsity | torch as it comes | best, x by token | best of all layouts | hew "
        "| hew / by token | hew / best | best: tile/stages/warps/group, layouts |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.cell.name} | {r.cell.block} | {r.cell.sparsity:g} | {times(r.plain)} "
        f"| {times(r.token)} | {times(r.best)} | {times(r.hew)} | {times(r.token_ratio)} "
        f"| {times(r.ratio)} | {r.parameters} |"
        for r in rows
    ]
    lines += [
        "",
        "| b | cells | torch as it comes | best, x by token | best of all layouts | hew "
        "| hew / by token: geometric mean | worst cell | hew / best: geometric mean | worst cell |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for block in sorted({r.cell.block for r in rows}):
        group = [r for r in rows if r.cell.block == block]
        lines.append(
            f"| {block} | {len(group)} | {times(mean(r.plain for r in group))} "
            f"| {times(mean(r.token for r in group))} | {times(mean(r.best for r in group))} "
            f"| {times(mean(r.hew for r in group))} | {times(mean(r.token_ratio for r in group))} "
            f"| {worst_of(group, 'token_ratio')} | {times(mean(r.ratio for r in group))} "
            f"| {worst_of(group, 'ratio')} |"
        )
    return "\n".join(lines)
