"""scripts/plot_run.py reads metrics.jsonl as written, draws a PNG, and names what is wrong."""

import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import matplotlib.image  # noqa: E402
import plot_run  # noqa: E402


def synthetic_lines(matrices):
    """A run of 100 steps with a refresh every 25."""
    for step in range(100):
        if step % 25 == 0:
            weights = {
                f"blocks.{m}.mlp.up.weight": {"live": 64 - step // 2, "blocks": 64,
                                              "sparsity": step // 2 / 64}
                for m in range(matrices)
            }
            yield {"kind": "refresh", "step": step, "weights": weights}
        yield {"kind": "train", "step": step, "loss": 7 - step / 25, "lr": 1e-3 * step / 100,
               "tokens_per_second": 1000.0, "grad_norm": 1.0, "sparsity": step / 200,
               "seconds": step / 10}
        if step % 50 == 49:
            yield {"kind": "eval", "step": step, "loss": 6 - step / 25, "bits_per_byte": 2.5}


def write_run(folder, matrices, tail=""):
    folder.mkdir()
    lines = [json.dumps(line) for line in synthetic_lines(matrices)]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n" + tail, encoding="utf-8")
    return folder


def run(*arguments):
    command = [sys.executable, ROOT / "scripts" / "plot_run.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def check_curves(folder):
    metrics = plot_run.read_metrics(folder / "metrics.jsonl", "sparse")
    assert metrics.loss.steps == list(range(100))
    assert metrics.loss.values[50] == 5.0
    assert metrics.valid_loss.steps == [49, 99]
    assert metrics.lr.values[10] == 1e-4
    assert set(metrics.matrices) == {"blocks.0.mlp.up.weight", "blocks.1.mlp.up.weight"}
    assert metrics.matrices["blocks.1.mlp.up.weight"].values == [0, 12 / 64, 25 / 64, 37 / 64]


def check_refusals(folder):
    bad = {
        "broken.jsonl": ('{"kind": "train", "st\n{}\n', "broken.jsonl:1: "),
        "keyless.jsonl": ('{"kind": "train", "step": 1}\n', "keyless.jsonl:1: "),
        "list.jsonl": ("[1]\n", "list.jsonl:1: "),
        "empty.jsonl": ("", "empty.jsonl: "),
    }
    for name, (content, place) in bad.items():
        path = folder / name
        path.write_text(content, encoding="utf-8")
        done = run(path)
        assert done.returncode == 1 and place in done.stderr, (name, done)
        assert done.stderr.count("\n") == 1, done.stderr
    done = run(folder / "nowhere")
    assert done.returncode == 1 and "nowhere" in done.stderr, done


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        sparse = write_run(folder / "sparse", matrices=2, tail='{"kind": "tra')  # being written
        dense = write_run(folder / "dense", matrices=0)
        check_curves(sparse)
        done = run(sparse)
        assert done.returncode == 0 and done.stdout.strip() == str(sparse / "metrics.png"), done
        alone = matplotlib.image.imread(sparse / "metrics.png")
        assert alone.shape[0] > 500 and alone[..., :3].std() > 0.05, alone.shape
        both = folder / "both.png"
        assert run(sparse, dense / "metrics.jsonl", "-o", both).returncode == 0
        assert (matplotlib.image.imread(both) != alone).any()
        check_refusals(folder)
    print("plots of one run and of two; 5 unreadable files refused")


if __name__ == "__main__":
    main()
