"""scripts/bench_scaling.sh on the CPU: 1 and 2 ranks, a recipe that fails, what is kept, the page."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = os.environ.get("HEW_BUILD_DIR", "build")
RECIPE = """\
run: {{dir: runs/tiny, seed: 1}}
model: {{family: gpt2, layers: {layers}, heads: 2, width: {width}, context: 32, vocab: 128}}
data: {{train: none}}
train:
  steps: 100
  batch: 4
optim: {{lr: 1e-3}}
"""
RULE = """\
sparsity:
  - match: [blocks.*.attn.*.weight, blocks.*.mlp.*.weight]
    method: static
    block: 8
    schedule: {name: constant, final: 0.75}
"""
LAYERS, WIDTH = 2, 64
LINEARS = 12 * LAYERS * WIDTH**2
# Biases, norms, tokens, positions.
OTHERS = 13 * LAYERS * WIDTH + 2 * WIDTH + (128 + 32) * WIDTH


def run(*command):
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def bench(folder, *options):
    corpus = folder / "corpus.bin"
    return run(
        "scripts/bench_scaling.sh", "--build", BUILD, "--no-build", "--slots", "2",
        "--ranks", "1,2,4", "--work", folder / "work", "--mpirun", "mpirun --oversubscribe",
        "--corpus", corpus, "--valid", corpus, "--loss-recipes", folder / "tiny.yaml",
        "--loss-batch", "8", "--loss-steps", "20", "--tokens", "512",
        "--hew-options", f"data.train={corpus}", *options, folder / "page.md",
    )  # fmt: skip


def record(folder, name):
    return json.loads((folder / "work" / f"{name}.json").read_text())


def check_items(folder):
    recipes = ",".join(str(folder / f"{name}.yaml") for name in ("tiny", "sparse", "wrong"))
    done = bench(folder, "--recipes", recipes, "--parts", "weak,loss", "--minutes", "3")
    assert done.returncode == 0, done.stdout + done.stderr

    dense, sparse = record(folder, "weak-tiny-2"), record(folder, "weak-sparse-2")
    assert dense["status"] == sparse["status"] == "done", (dense, sparse)
    assert dense["result"]["step_bytes"] == 4 * (LINEARS + OTHERS)
    assert sparse["result"]["step_bytes"] == 4 * (LINEARS / 4 + OTHERS)
    assert record(folder, "weak-tiny-1")["result"]["step_bytes"] == 0
    assert record(folder, "weak-wrong-1")["status"] == "failed"
    assert "model.heads" in record(folder, "weak-wrong-1")["reason"]
    assert record(folder, "weak-tiny-4")["reason"] == "there are places for 2 ranks"
    one, two = (record(folder, f"loss-tiny-{ranks}")["result"]["valid_loss"] for ranks in (1, 2))
    assert abs(one - two) <= 1e-5, (one, two)

    page = (folder / "page.md").read_text()
    assert "| weak | tiny | 2 | 4 in 1 | " in page, page
    assert "| weak | wrong | 2 | 4 in 1 | failed: hew: " in page, page

    # The next call keeps what is done, and with no time left starts nothing.
    again = bench(folder, "--recipes", recipes, "--parts", "weak,strong", "--minutes", "0")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "== weak-tiny-2: kept" in again.stdout, again.stdout
    assert record(folder, "strong-tiny-2")["reason"] == "the time was up"
    assert record(folder, "weak-wrong-1")["reason"] == "the time was up"


def write_item(folder, part, model, ranks, batch, **result):
    facts = {
        "part": part, "model": model, "ranks": ranks, "batch": batch, "micro_batch": 8, "steps": 200,
        "shape": {"layers": 48, "width": 1600, "context": 1024}, "status": "done", "beside": 0,
        "command": ["python3", str(ROOT / "tests/bench/gpt2_hew.py")], "when": "now", "seconds": 1,
        "result": {"step_bytes": None, "device_gib": 40.0, "valid_loss": None, **result},
    }  # fmt: skip
    (folder / f"{part}-{model}-{ranks}.json").write_text(json.dumps(facts))


def check_table(folder):
    """Figures that follow from made-up ones: a step of 20 ms and 100 ms a micro-batch."""
    dense, sparse = "gpt2-1558m-cuda", "gpt2-xl-sparse90"
    folder.mkdir()
    write_item(folder, "weak", dense, 1, 8, step_ms=120, tokens_per_second=1000)
    write_item(folder, "weak", dense, 8, 64, step_ms=150, tokens_per_second=6400, step_bytes=6.23e9)
    write_item(folder, "weak", sparse, 8, 64, step_ms=70, tokens_per_second=13e3, step_bytes=0.92e9)
    write_item(folder, "strong", dense, 1, 64, step_ms=820, tokens_per_second=1200)
    write_item(folder, "strong", dense, 4, 64, step_ms=250, tokens_per_second=3600)
    write_item(folder, "loss", dense, 1, 64, step_ms=1, tokens_per_second=1, valid_loss=3.5)
    write_item(folder, "loss", dense, 2, 64, step_ms=1, tokens_per_second=1, valid_loss=3.502)
    page = run(sys.executable, "scripts/scaling_table.py", folder).stdout
    for text in (
        "| 6.4k | 6.400× (asked for: 7.6×) | 80.0 % | 150.0 ms | 30.0 ms | 6.23 GB | 40.00 GiB |",
        "| 16 in 2 | 3.6k | 3.000× | 75.0 % | 250.0 ms | 30.0 ms |",
        "of dense: 0.0997× (asked for: ≤ 0.12×); of all: 0.1477×",
        "| 64 | 200 | 2 | 3.502000 | 2.0e-03 |",
    ):
        assert text in page, f"{text} not in\n{page}"


def check_refusals(folder):
    for options, text in (
        (("--parts", "week"), "no part week"),
        (("--ranks", "one"), "--ranks one"),
        (("--recipes", "none.yaml"), "no recipe none.yaml"),
        (("--loss-recipes", "none.yaml"), "no recipe none.yaml"),
        (("--minutes",), "--minutes needs a value"),
        (("--sideways", "yes"), "unknown option --sideways"),
    ):
        refused = run("scripts/bench_scaling.sh", "--work", folder / "none", *options)
        assert refused.returncode == 2 and text in refused.stderr, refused.stderr
    assert not (folder / "none").exists()


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        tiny = RECIPE.format(layers=LAYERS, width=WIDTH)
        (folder / "tiny.yaml").write_text(tiny)
        (folder / "sparse.yaml").write_text(tiny + RULE)
        (folder / "wrong.yaml").write_text(RECIPE.format(layers=LAYERS, width=WIDTH + 1))
        corpus = ("--tokens", "100000", "--vocab", "100")
        run(sys.executable, "scripts/random_corpus.py", folder / "corpus.bin", *corpus)
        check_table(folder / "made-up")
        check_refusals(folder)
        check_items(folder)
    print("scripts/bench_scaling.sh: items, what is kept, the page, refusals")


if __name__ == "__main__":
    main()
