#!/usr/bin/env python3
"""scripts/bench_vs_torch.py as far as it goes without a GPU: its cells, and its table."""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts/bench_vs_torch.py"
sys.path.insert(0, str(SCRIPT.parent))
import bench_vs_torch  # noqa: E402

BEST = {
    "tile": 64,
    "stages": 3,
    "warps": 4,
    "group": 1,
    "x_by_feature": False,
    "y_by_feature": True,
}


def torch_record(shape, block, sparsity, best_ms, **changes):
    record = {
        "shape": shape,
        "block": block,
        "wanted_sparsity": sparsity,
        "dense_ms": 1.0,
        "linear_ms": 4.0,
        "addmm_ms": 2.0,
        "best_ms": best_ms,
        "token_ms": best_ms and 2 * best_ms,
        "best": BEST,
        "device": "a GPU",
        "versions": "PyTorch 2",
    }
    return {**record, **changes}


def hew_record(shape, block, sparsity, speedup, **changes):
    record = {
        "product": "forward",
        "shape": shape,
        "block": block,
        "wanted_sparsity": sparsity,
        "pattern": "random",
        "dtype": "bf16",
        "speedup": speedup,
    }
    return {**record, **changes}


class Cells(unittest.TestCase):
    def test_the_most_important_come_first_and_only_where_the_block_divides(self):
        cells = bench_vs_torch.cells_of(bench_vs_torch.parse_arguments([]))
        self.assertEqual(len(cells), 5 * 3 * 4 - 4)
        self.assertEqual(str(cells[0]), "vitb_fc1 b=64 0.9")
        self.assertFalse([c for c in cells if c.shape == "gpt2xl_fc1" and c.block == 128])

    def test_tokens_take_the_place_of_the_shapes_own(self):
        words = "--shapes vitb_fc1 --blocks 16 --sparsity 0.9 --tokens 256 50432".split()
        cells = bench_vs_torch.cells_of(bench_vs_torch.parse_arguments(words))
        self.assertEqual([c.sizes for c in cells], [(256, 3072, 768), (50432, 3072, 768)])
        self.assertEqual([str(c) for c in cells], ["vitb_fc1 M=256 b=16 0.9", "vitb_fc1 b=16 0.9"])

    def test_tiles_divide_the_tokens(self):
        arguments = bench_vs_torch.parse_arguments(["--tiles", "64", "512", "--groups", "4"])
        tiles = {choice.tile for choice in bench_vs_torch.choices_of(arguments, 50432)}
        self.assertEqual(tiles, {64})
        choice = bench_vs_torch.Choice(64, 3, 4, 1)
        self.assertEqual(choice.meta(50432)["SPLIT_N"], 788)


class Table(unittest.TestCase):
    def run_script(self, torch_records, hew_records):
        with tempfile.TemporaryDirectory() as folder:
            files = {"torch": torch_records, "hew": hew_records}
            for name, records in files.items():
                text = "a line of a table\n" + "".join(json.dumps(r) + "\n" for r in records)
                (pathlib.Path(folder) / name).write_text(text)
            words = [word for name in files for word in (f"--{name}", f"{folder}/{name}")]
            done = subprocess.run(
                [sys.executable, SCRIPT, *words], capture_output=True, text=True, check=True
            )
        return done.stdout

    def test_speedups_are_joined_by_cell(self):
        out = self.run_script(
            [torch_record("vitb_fc1", 64, 0.9, 0.5), torch_record("llama_up", 64, 0.8, 0.25)],
            [
                hew_record("vitb_fc1", 64, 0.9, 3.0),
                hew_record("llama_up", 64, 0.8, 5.0),
                hew_record("llama_up", 64, 0.8, 99.0, product="input_gradient"),
                hew_record("llama_up", 64, 0.8, 99.0, dtype="fp32"),
                hew_record("llama_up", 64, 0.8, 99.0, pattern="long-row"),
            ],
        )
        self.assertIn("| 0.9 | 0.50× | 1.00× | 2.00× | 3.00× | 3.00× | 1.50× | 64/3/4/1", out)
        self.assertIn("| llama_up | 64 | 0.8 | 0.50× | 2.00× | 4.00× | 5.00× | 2.50× | 1.25× |", out)
        self.assertIn(
            "| 64 | 2 | 0.50× | 1.41× | 2.83× | 3.87× | 2.74× | 2.50× llama_up 0.8 | 1.37× "
            "| 1.25× llama_up 0.8 |",
            out,
        )

    def test_speedups_are_joined_by_dtype_and_tokens(self):
        changes = {"dtype": "tf32", "M": 256}
        out = self.run_script(
            [torch_record("vitb_fc1", 16, 0.9, 0.5, **changes)],
            [
                hew_record("vitb_fc1", 16, 0.9, 3.0, **changes),
                hew_record("vitb_fc1", 16, 0.9, 99.0, dtype="tf32", M=50432),
                hew_record("vitb_fc1", 16, 0.9, 99.0, M=256),
            ],
        )
        self.assertIn("a GPU, PyTorch 2. Forward, tf32;", out)
        self.assertIn("| vitb_fc1 M=256 | 16 | 0.9 | 0.50× | 1.00× | 2.00× | 3.00× | 3.00× | 1.50× |", out)

    def test_cells_without_a_side_stay_in_the_table(self):
        out = self.run_script(
            [
                torch_record("vitb_fc1", 32, 0.9, 0.5),
                torch_record(
                    "vitb_fc2", 32, 0.9, None, linear_ms=None, addmm_ms=None, best=None
                ),
            ],
            [],
        )
        self.assertIn("| vitb_fc1 | 32 | 0.9 | 0.50× | 1.00× | 2.00× | – | – | – |", out)
        self.assertIn("| vitb_fc2 | 32 | 0.9 | – | – | – | – | – | – | none works |", out)

    def test_what_is_no_record_of_a_cell_is_one_line(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "broken"
            for data in (b"", b"[1, 2]", b'{"a": 1}', b'{"shape": "vitb_fc1"}', b"{\xff", b"{1"):
                path.write_bytes(data)
                done = subprocess.run(
                    [sys.executable, SCRIPT, "--torch", path], capture_output=True, text=True
                )
                self.assertEqual(done.returncode, 2)
                self.assertEqual(done.stdout, "")
                self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
                self.assertIn(str(path), done.stderr)

    def refused(self, text, *words):
        done = subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True)
        self.assertEqual(done.returncode, 2)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        self.assertIn(text, done.stderr)

    def test_numbers_out_of_range_are_one_line_before_anything_runs(self):
        for option in ("blocks", "tiles", "stages", "warps", "groups", "tokens", "repeats", "jobs"):
            self.refused(f"--{option}: got 0, expected 1 or more", f"--{option}", "0")
        for value in ("5", "1", "nan"):
            self.refused(f"--sparsity: got {value}, expected", "--sparsity", value)
        self.refused("--blocks", "--blocks", "many")

    def test_what_is_no_record_of_hew_is_one_line(self):
        good = hew_record("vitb_fc1", 64, 0.9, 3.0)
        without = {name: value for name, value in good.items() if name != "speedup"}
        for record in ({"a": 1}, without, {**good, "speedup": "fast"}):
            with tempfile.TemporaryDirectory() as folder:
                path = pathlib.Path(folder) / "hew.jsonl"
                path.write_text(json.dumps(record) + "\n")
                self.refused(f"{path}: not a record of hew bench bsr", "--hew", path)

    def test_a_missing_file_is_one_line(self):
        done = subprocess.run(
            [sys.executable, SCRIPT, "--torch", "no-such-file"], capture_output=True, text=True
        )
        self.assertEqual(done.returncode, 2)
        self.assertEqual(
            done.stderr, "bench_vs_torch: no-such-file: No such file or directory\n"
        )


if __name__ == "__main__":
    unittest.main()
