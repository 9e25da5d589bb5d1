"""scripts/accuracy_table.py and speed_table.py on a tiny model: cells, resume, tables, failures."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
HEW = pathlib.Path(os.environ.get("HEW_BUILD_DIR", ROOT / "build")) / "hew"
sys.path.insert(0, str(ROOT / "scripts"))

import accuracy_table  # noqa: E402
import figures  # noqa: E402

RECIPE = """
run: {dir: unset}
model: {family: gpt2, layers: 1, heads: 2, width: 32, context: 8}
data: {train: corpus.h5, valid: corpus.h5}
train: {steps: 30, batch: 2}
optim: {lr: 1e-3}
checkpoint: {every: 10}
sparsity: [{match: "*.weight", method: supermask, schedule: {final: 0.5}, freeze_scores_at: 20}]
"""


def call(folder, *command, status=0):
    done = subprocess.run(
        list(map(str, command)), cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done
    return done.stdout


def refused(folder, name, *arguments, hew=HEW):
    """The one line of a call that leaves before anything starts."""
    command = [sys.executable, ROOT / "scripts" / name, "--hew", hew, *arguments]
    done = subprocess.run(
        list(map(str, command)), cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1, done
    return done.stderr


def script(folder, name, *arguments, status=0):
    return call(
        folder, sys.executable, ROOT / "scripts" / name, *arguments, "--hew", HEW, status=status
    )


def check_accuracy(folder):
    grid = ["recipe.yaml", "-o", "grid", "--methods", "supermask,blast", "--blocks", "8",
            "--sparsities", "0.5,0.8", "--seeds", "1,2", "--rule", "blast: every: 5",
            "--gpus", "none", "train.log_every=30"]
    first = script(folder, "accuracy_table.py", *grid, "--minutes", "0")
    assert "0 of 10 runs finished" in first or "1 of 10" in first, first
    # One that had come half way, by another hand.
    cell = folder / "grid" / "cells" / "blast-b8-s80-seed2"
    arguments = accuracy_table.argparse.Namespace(
        output=folder / "grid", match=["blocks.*.mlp.*.weight"], rule=["blast: every: 5"],
        schedule=[], launcher="", hew=HEW, gpus=[], recipe="recipe.yaml", overrides=[],
    )
    command = accuracy_table.Grid(arguments).command(accuracy_table.Cell("blast", 8, 0.8, 2))
    call(folder, *command, "--stop-after", "17")
    assert accuracy_table.last_evaluation(cell) is None
    second = script(folder, "accuracy_table.py", *grid, "--jobs", "2")
    assert "10 of 10 runs finished" in second and "FAILED" not in second, second
    assert "resumed from" in (cell.parent / f"{cell.name}.log").read_text()
    assert second.count(" ± ") == 6, second  # four cells, dense, and the heading
    cells = json.loads((folder / "grid" / "accuracy.json").read_text())
    losses = [c["evaluation"]["loss"] for c in cells
              if c["method"] == "blast" and c["sparsity"] == 0.8]
    mean, spread = figures.mean_and_spread(losses)
    assert f"{mean:.4f} ± {spread:.4f}" in (folder / "grid" / "accuracy.md").read_text()
    third = script(folder, "accuracy_table.py", *grid)
    assert "done" not in third and "10 of 10 runs finished" in third, third
    broken = script(folder, "accuracy_table.py", "recipe.yaml", "-o", "broken", "--methods",
                    "static", "--blocks", "7", "--sparsities", "0.5", "--gpus", "none", status=1)
    assert "FAILED: " in broken and "| failed |" in broken and "Dense: " in broken, broken
    check_refused_accuracy(folder, grid)


def check_refused_accuracy(folder, grid):
    def line(*more, **options):
        return refused(folder, "accuracy_table.py", *grid, *more, **options)

    for options, what in (
        (["train.steps=9"], "overrides"),
        (["--match", "*.weight"], "match"),
        (["--rule", "blast: regrow: swap"], "rule of blast"),
        (["--schedule", "blast=cubic"], "schedule of blast"),
    ):
        assert f"grid holds runs of another {what}" in line(*options)
    assert "--rule foo: expected METHOD:… of a method of supermask, blast" in line("--rule", "foo")
    assert "--schedule static=cubic: expected" in line("--schedule", "static=cubic")
    assert "--metric foo: not one of loss, " in line("--metric", "foo")
    assert "--metric top1: not in the evaluation of dense-seed1" in line("--metric", "top1")
    assert "--hew nosuch: no such program" in line("-o", "new", hew="nosuch")
    assert "recipe.yaml/cells: " in line("-o", "recipe.yaml")
    assert not (folder / "new").exists()
    late = script(folder, "accuracy_table.py", *grid, "-o", "late", "--metric", "top5", status=1)
    assert late.count(": done") == 1 and "FAILED" not in late, late  # the first cell tells


def check_speed(folder):
    grid = ["recipe.yaml", "-o", "speed", "--sparsities", "0.5,0.9", "--blocks", "8,16",
            "--batches", "1,4", "--repeats", "2", "--threads", "1", "model.vocab=257",
            "--precision", "fp32"]
    first = script(folder, "speed_table.py", *grid)
    assert first.count("done") == 4 and first.count("×") == 8, first
    assert "| batch 4 | 50 % | 90 % |" in first and "| 90 % | batch 1 | batch 4 |" in first, first
    rows = json.loads((folder / "speed" / "speed.json").read_text())
    assert len(rows) == 8 and all(row["difference"] < 1e-4 for row in rows)
    (folder / "speed" / "cells" / "b8-s90.jsonl").unlink()
    assert script(folder, "speed_table.py", *grid).count("done") == 1
    row = {"what": "forward", "dtype": "fp32", "batch": 4, "sparsity": 0.9, "block": 8, "ms": 12.5}
    other = row | {"dtype": "bf16", "ms": 1.0}  # of another precision: not taken
    beside = folder / "torch.jsonl"
    beside.write_text(f"a warning\n{json.dumps(row)}\n{json.dumps(other)}\n")
    options = ["--table-only", "--beside"]
    both = script(folder, "speed_table.py", *grid, *options, str(beside))
    assert both.count(" / 12.50 |") == 2 and " / 1.00 |" not in both, both
    for text in ("", '{"ms": 1}', "{", "[1, 2]\n3\n", json.dumps(row | {"ms": "x"})):
        beside.write_text(text)
        assert "--beside " in refused(folder, "speed_table.py", *grid, *options, str(beside))
    broken = script(folder, "speed_table.py", *grid, "--device", "cpu", "--precision", "bf16",
                    "-o", "broken", status=1)
    assert "FAILED: " in broken and "| failed |" in broken, broken
    check_refused_speed(folder, grid)


def check_refused_speed(folder, grid):
    def line(*more, **options):
        return refused(folder, "speed_table.py", *grid, *more, **options)

    for options, what in (
        (["--precision", "fp64"], 'precision ("fp32")'),
        (["--match", "*.weight"], "match"),
        (["--tokens", "4"], "tokens (not given)"),
        (["model.width=64"], "overrides"),
    ):
        assert f"speed holds timings of another {what}" in line(*options)
    assert "--at-batch 7: not one of" in line("--at-batch", "7")
    assert "--at-sparsity 0.7: not one of" in line("--at-sparsity", "0.7")
    assert "--hew nosuch: no such program" in line("-o", "new", hew="nosuch")
    assert "recipe.yaml/cells: " in line("-o", "recipe.yaml")
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.replace("width: 32", "width: 64"))
    assert "speed holds timings of another recipe;" in line()
    recipe.write_text(RECIPE)
    cell = folder / "speed" / "cells" / "b8-s50.jsonl"
    for text in ("{", "[1, 2]\n", '{"batch": 1}\n'):
        cell.write_text(text)
        assert "b8-s50.jsonl: damaged" in line()
    (folder / "speed" / "grid.json").unlink()
    assert "speed holds timings of unknown settings" in line()


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "recipe.yaml").write_text(RECIPE)
        (folder / "text.txt").write_text("a sparse house stands upon a hill\n" * 40)
        call(folder, HEW, "data", "tokenize", "text.txt", "--tokenizer", "bytes", "-o", "corpus.h5")
        check_accuracy(folder)
        check_speed(folder)
    print("a grid of 10 runs in three sittings, 4 timings in two; failures shown in their cells")


if __name__ == "__main__":
    main()
