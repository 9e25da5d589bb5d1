#!/usr/bin/env python3
"""Exported files, read by scripts/load_bsr.py, h5py, safetensors and scipy.

Needs numpy, h5py, safetensors and scipy; torch is used if it is there. HEW_TESTS names the folder
of the built tests (build/tests).
"""

import hashlib
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import h5py
import numpy as np
import safetensors
import safetensors.numpy
import scipy.sparse

ROOT = pathlib.Path(__file__).resolve().parents[2]
SAMPLE_FILES = pathlib.Path(os.environ.get("HEW_TESTS", ROOT / "build/tests")) / "io_sample_files"
sys.path.insert(0, str(ROOT / "scripts"))
import load_bsr  # noqa: E402

MATRICES = {
    "blocks.0.mlp.up.weight": ((19, 13), 8, "float32"),
    "head.weight": ((48, 32), 16, "bfloat16"),
    "one": ((1, 1), 8, "float64"),
    "row.empty": ((17, 8), 8, "float32"),
}


def expected(shape, block):
    """The matrix of tests/io/sample_files.cc."""
    n, k = np.indices(shape)
    w = (n * shape[1] + k) % 251 - 125.5
    r, c = n // block, k // block
    dead = (r == 1) | ((r * -(-shape[1] // block) + c) % 3 == 1)
    return np.where(dead, 0, w)


class LoadBsr(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory()
        cls.folder = pathlib.Path(cls.scratch.name)
        subprocess.run([SAMPLE_FILES, "write", cls.folder], check=True)
        cls.files = [cls.folder / "bsr.h5", cls.folder / "bsr.safetensors"]

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    def test_matrices_are_the_expected_ones(self):
        for file in self.files:
            model = load_bsr.load(file)
            self.assertEqual(list(model), sorted([*MATRICES, "norm.weight", "head.bias"]))
            for name, (shape, block, dtype) in MATRICES.items():
                with self.subTest(file=file.name, matrix=name):
                    matrix = model[name]
                    wanted = expected(shape, block)
                    self.assertEqual((matrix.shape, matrix.block, matrix.dtype),
                                     (shape, block, dtype))
                    np.testing.assert_array_equal(matrix.to_dense(), wanted)
                    bsr = matrix.to_scipy()
                    self.assertIsInstance(bsr, scipy.sparse.bsr_matrix)
                    self.assertEqual(bsr.shape, matrix.padded_shape)
                    np.testing.assert_array_equal(matrix.trim(bsr).toarray(), wanted)
                    x = np.random.default_rng(0).standard_normal((5, shape[1]))
                    np.testing.assert_allclose(matrix.trim(bsr @ matrix.pad(x.T)), wanted @ x.T,
                                               rtol=1e-12, atol=1e-9)
            np.testing.assert_array_equal(model["norm.weight"], np.float32([1, 2, 3]))
            np.testing.assert_array_equal(model["head.bias"].to_float32(), [0.5, -2])

    def test_torch_gives_the_same(self):
        try:
            import torch
        except ImportError:
            self.skipTest("no torch")
        for file in self.files:
            for name, matrix in load_bsr.load(file).items():
                if name in MATRICES:
                    tensor = matrix.to_torch()
                    self.assertEqual(tensor.layout, torch.sparse_bsr)
                    dense = tensor.to_dense().to(torch.float64).numpy()
                    np.testing.assert_array_equal(
                        dense[:matrix.shape[0], :matrix.shape[1]], expected(*MATRICES[name][:2]))

    def test_h5py_and_safetensors_read_the_files_as_they_are(self):
        with h5py.File(self.files[0]) as file:
            self.assertEqual(file.userblock_size, 512)
            self.assertEqual((file.attrs["kind"], file.attrs["version"]), ("bsr", 1))
            self.assertEqual(file["head.weight/values"].attrs["dtype"], "bfloat16")
            self.assertEqual(file["one/crow_indices"].dtype, np.int64)
            self.assertIs(bool(file["norm.weight"].attrs["flag"]), True)
            self.assertEqual(file["norm.weight"].attrs["flag"].dtype, np.bool_)
        with safetensors.safe_open(self.files[1], framework="numpy") as file:
            self.assertEqual(file.metadata()["head.weight.shape"], "[48, 32]")
            np.testing.assert_array_equal(file.get_tensor("norm.weight"), np.float32([1, 2, 3]))
            np.testing.assert_array_equal(file.get_tensor("row.empty.crow_indices"), [0, 1, 1, 2])

    def test_files_of_the_safetensors_package_are_read(self):
        rng = np.random.default_rng(1)
        tensors = {
            "a": rng.standard_normal((3, 5)).astype(np.float32),
            "b": rng.standard_normal(7),
            "c": rng.integers(0, 9, (2, 2, 2)),
            "d": rng.integers(0, 255, 3).astype(np.uint8),
            "e": np.zeros((0, 4), np.int32),
            "f": rng.integers(0, 65535, 11).astype(np.uint16),
        }
        path = self.folder / "from_python.safetensors"
        safetensors.numpy.save_file(tensors, path, metadata={"format": "np"})
        out = subprocess.run([SAMPLE_FILES, "read", path], check=True, capture_output=True,
                             text=True).stdout
        wanted = "".join(f"{name} {values.dtype.name} {list(values.shape)} "
                         f"{hashlib.sha256(values.tobytes()).hexdigest()}\n"
                         for name, values in tensors.items())
        self.assertEqual(out, wanted)

    def test_damage_is_found(self):
        original = self.files[0].read_bytes()
        path = self.folder / "damaged.h5"
        for place in (3, 7, 30, 75, 85, 92, 300, 511, 600, len(original) // 2, len(original) - 1):
            changed = bytearray(original)
            changed[place] ^= 1
            path.write_bytes(changed)
            self.assertRaises(load_bsr.FormatError, load_bsr.load, path)
        for length in (0, 100, 512, 600, len(original) - 1):
            path.write_bytes(original[:length])
            self.assertRaises(load_bsr.FormatError, load_bsr.load, path)
        path.write_bytes(original[512:])
        self.assertRaises(load_bsr.FormatError, load_bsr.load, path)
        path = self.folder / "damaged.safetensors"
        for length in (0, 7, 100, self.files[1].stat().st_size - 1):
            path.write_bytes(self.files[1].read_bytes()[:length])
            self.assertRaises(load_bsr.FormatError, load_bsr.load, path)

    def test_broken_invariants_are_found(self):
        def broken(**changes):
            fields = {"shape": (19, 13), "block": 8, "crow_indices": np.array([0, 2, 2, 3]),
                      "col_indices": np.array([0, 1, 1]), "values": np.zeros((3, 8, 8))}
            load_bsr._check("f", "w", load_bsr.BlockSparse(**{**fields, **changes}))

        broken()
        padded = np.zeros((3, 8, 8))
        padded[1, 0, 5] = 1
        for changes in ({"crow_indices": np.array([1, 2, 2, 3])},
                        {"crow_indices": np.array([0, 2, 1, 3])},
                        {"crow_indices": np.array([0, 2, 2, 2])},
                        {"crow_indices": np.array([0, 3])},
                        {"col_indices": np.array([0, 2, 1])},
                        {"col_indices": np.array([1, 1, 1])},
                        {"col_indices": np.array([1, 0, 1])},
                        {"values": np.zeros((2, 8, 8))},
                        {"values": padded}):
            self.assertRaises(load_bsr.FormatError, broken, **changes)

    def test_the_command_lists_or_says_what_is_wrong(self):
        command = [sys.executable, ROOT / "scripts/load_bsr.py"]
        for file in self.files:
            out = subprocess.run([*command, file], check=True, capture_output=True, text=True).stdout
            self.assertIn("blocks.0.mlp.up.weight  bsr float32 [19, 13] block 8 live 2 sparsity "
                          "0.6667\n", out)
            self.assertIn("head.bias  dense bfloat16 [2]\n", out)
        result = subprocess.run([*command, "/nowhere/a.h5"], capture_output=True, text=True)
        self.assertEqual(result.returncode, 1)
        self.assertEqual(result.stderr.count("\n"), 1)


if __name__ == "__main__":
    unittest.main()
