#!/usr/bin/env python3
"""scripts/gpu_report_table.py: what each row says of commands that ran, failed or did not run."""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "scripts/gpu_report_table.py"
ATTENTION = "attention, forward and backward, D=64, T=1024"


class Rows(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory()
        self.addCleanup(self.scratch.cleanup)
        self.folder = pathlib.Path(self.scratch.name)

    def item(self, name, out, status=0):
        (self.folder / f"{name}.command").write_text(f"run {name}\n")
        (self.folder / f"{name}.out").write_text(out)
        (self.folder / f"{name}.status").write_text(f"{status} 7 2026-01-01T00:00Z\n")

    def cells(self, figure):
        done = subprocess.run(
            [sys.executable, SCRIPT, self.folder], capture_output=True, text=True, check=True
        )
        rows = [[c.strip() for c in line.split("|")[1:-1]] for line in done.stdout.splitlines()]
        found = [row[1:] for row in rows if row and row[0] == figure]
        self.assertEqual(len(found), 1, done.stdout)
        return found[0]

    def time_attention(self):
        record = {"head": 64, "tokens": 1024, "forward_backward_ms": 1.2, "backend": "cudnn"}
        slower = {**record, "forward_backward_ms": 2.4, "backend": "flash"}
        lines = [record, slower, {**record, "best": True}]
        self.item("attention", "\n".join(map(json.dumps, lines)))
        # Of several lines the one of the shape counts, and of its passes the first, both together.
        self.item(
            "attention-hew",
            "attention forward+backward D=64 T=4096 B=16 H=12  9.000 ms  1.0 TFLOP/s\n"
            "attention forward+backward D=64 T=1024 B=64 H=12  1.500 ms  1.0 TFLOP/s\n"
            "attention forward D=64 T=1024 B=64 H=12  0.500 ms  1.0 TFLOP/s\n",
        )

    def test_attention_of_both_libraries(self):
        self.time_attention()
        words = ["1.500 ms", "1.200 ms (cudnn)", "0.800x", "1.0x"]
        self.assertEqual(self.cells(ATTENTION), words)
        same = ATTENTION + ", PyTorch's cuDNN"
        self.assertEqual(self.cells(same), ["not run", "1.200 ms (cudnn)", "–", "1.0x"])
        self.item("attention-hew-same", "attention D=64 T=1024  1.000 ms\n")
        self.assertEqual(self.cells(same), ["1.000 ms", "1.200 ms (cudnn)", "1.200x", "1.0x"])

    def test_attention_that_failed(self):
        self.time_attention()
        self.item("attention-hew", "", status=124)
        out = "failed: out of time after 7 s"
        self.assertEqual(self.cells(ATTENTION), [out, "1.200 ms (cudnn)", "–", "1.0x"])
        self.item("attention", "", status=1)
        figure = "attention, forward and backward"
        self.assertEqual(self.cells(figure), ["–", "failed: status 1", "–", "1.0x"])

    def test_the_slower_of_two_runs_counts(self):
        rates = {"train-124m": 3e5, "train-124m-again": 2e5, "torch-124m": 1e5}
        for name, rate in rates.items():
            record = {"tokens_per_second": rate, "step_ms": 1.0, "device_gib": 2.0, "mfu": 0.4}
            self.item(name, json.dumps(record))
        cells = self.cells("tokens/s, dense GPT-2 124M, T=1024")
        self.assertEqual(cells[0], "200.0k (1.0 ms)")
        self.assertEqual(cells[2], "2.000x")
        self.item("train-124m-again", "", status=3)
        self.assertEqual(self.cells("tokens/s, dense GPT-2 124M, T=1024")[0], "failed: status 3")

    def test_two_gpus_are_held_against_the_slower_one(self):
        def figures(rate, memory=1):
            return json.dumps(
                {"tokens_per_second": rate, "step_ms": 1, "optimizer_bytes": memory, "device_gib": 1}
            )

        self.item("scaling-1", figures(100))
        self.item("scaling-1-other", figures(80))
        self.item("scaling-2", figures(152, memory=400))
        self.item("scaling-2-nccl", figures(144))
        self.item("scaling-2-sharded", figures(148, memory=200))
        figure = "774M on 2 GPUs, B=16 each, over the slower of them alone"
        self.assertEqual(self.cells(figure)[2:], ["1.900x", "1.90x"])
        self.assertEqual(self.cells("the same with run.peer_copies: false")[2], "1.800x")
        self.assertEqual(self.cells("optimizer memory a GPU, ZeRO-1 on 2 GPUs")[2], "0.500x")


if __name__ == "__main__":
    unittest.main()
