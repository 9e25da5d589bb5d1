#!/usr/bin/env python3
"""Loads what `hew export` writes: block-sparse weights in sealed HDF5 or in safetensors.

    import load_bsr
    model = load_bsr.load("model.h5")            # or model.safetensors; {name: array or BlockSparse}
    w = model["blocks.0.mlp.up.weight"]          # BlockSparse, W of Y = X @ W.T
    w.shape, w.padded_shape, w.to_dense()        # true shape, storage shape, dense array
    w.to_scipy()                                 # scipy.sparse.bsr_matrix of the padded shape
    w.to_torch()                                 # torch.sparse_bsr_tensor of the padded shape
    w.trim(w.to_scipy() @ w.pad(x.T))            # (x @ W.T).T for x [tokens, K], padding cut off

    load_bsr.description("model.h5")["config"]   # family, layers, heads, width, ...

    load_bsr.py model.h5                         # lists the tensors

Needs numpy, and h5py for HDF5; scipy and torch only where asked for. The formats are described in
docs/file-formats.md.
"""

import argparse
import dataclasses
import hashlib
import json
import struct
import sys

try:
    import numpy as np
except ImportError as error:
    if __name__ == "__main__":
        sys.exit(f"load_bsr.py: {error}")
    raise

SEAL_BYTES = 512
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
BSR_VERSION = 1
TOKENIZER = "tokenizer.blob"  # bytes beside the parameters
SAFETENSORS_DTYPES = {
    "F64": "<f8", "F32": "<f4", "I64": "<i8", "I32": "<i4", "U16": "<u2", "U8": "u1", "BF16": "<u2",
}


class FormatError(Exception):
    """A file that is damaged, or not what it should be; one line that names it."""


@dataclasses.dataclass
class Bfloat16:
    """Bits of bfloat16 values, which numpy has no type for."""

    bits: np.ndarray

    @property
    def shape(self):
        return self.bits.shape

    def to_float32(self):
        return (self.bits.astype(np.uint32) << 16).view(np.float32)


def _dtype_name(values):
    return "bfloat16" if isinstance(values, Bfloat16) else values.dtype.name


def _as_numpy(values):
    return values.to_float32() if isinstance(values, Bfloat16) else values


@dataclasses.dataclass
class BlockSparse:
    """A matrix [N, K] of which only some b x b blocks are stored, zero-padded at ragged edges."""

    shape: tuple  # (N, K) without padding
    block: int
    crow_indices: np.ndarray  # [ceil(N / b) + 1]
    col_indices: np.ndarray  # [nnzb], ascending within a block row
    values: object  # [nnzb, b, b] array or Bfloat16

    @property
    def padded_shape(self):
        return tuple(-(-size // self.block) * self.block for size in self.shape)

    @property
    def dtype(self):
        return _dtype_name(self.values)

    @property
    def sparsity(self):
        rows, cols = (size // self.block for size in self.padded_shape)
        return 1 - len(self.col_indices) / (rows * cols)

    def to_scipy(self):
        """scipy.sparse.bsr_matrix of the padded shape; bfloat16 becomes float32."""
        import scipy.sparse

        parts = (_as_numpy(self.values), self.col_indices, self.crow_indices)
        return scipy.sparse.bsr_matrix(parts, shape=self.padded_shape)

    def to_torch(self):
        """torch.sparse_bsr_tensor of the padded shape, in the file's own dtype."""
        import torch

        if isinstance(self.values, Bfloat16):
            values = torch.from_numpy(self.values.bits.view(np.int16).copy()).view(torch.bfloat16)
        else:
            values = torch.from_numpy(self.values.copy())
        return torch.sparse_bsr_tensor(
            torch.from_numpy(self.crow_indices.copy()), torch.from_numpy(self.col_indices.copy()),
            values, size=self.padded_shape)

    def to_dense(self):
        """Array [N, K] without padding; bfloat16 becomes float32."""
        b = self.block
        values = _as_numpy(self.values)
        dense = np.zeros(self.padded_shape, values.dtype)
        for r in range(len(self.crow_indices) - 1):
            for p in range(self.crow_indices[r], self.crow_indices[r + 1]):
                c = self.col_indices[p]
                dense[r * b:(r + 1) * b, c * b:(c + 1) * b] = values[p]
        return dense[:self.shape[0], :self.shape[1]]

    def pad(self, x):
        """Adds zero rows to x [K, M], so that a padded matrix can be multiplied by it."""
        return np.pad(x, ((0, self.padded_shape[1] - x.shape[0]), (0, 0)))

    def trim(self, y):
        """Cuts the padding off a product y [padded N, M]; rows and columns off a padded matrix."""
        if tuple(y.shape) == self.padded_shape and hasattr(y, "tocsr"):
            return y.tocsr()[:self.shape[0], :self.shape[1]]
        return y[:self.shape[0]]


def _require(condition, text):
    if not condition:
        raise FormatError(text)


def _check(path, name, matrix):
    """The invariants of the format; what they are is in docs/file-formats.md."""
    where = f"{path}: matrix '{name}'"
    n, k, b = *matrix.shape, matrix.block
    crow, col = matrix.crow_indices, matrix.col_indices
    _require(n > 0 and k > 0 and b > 0, f"{where}: shape {matrix.shape} and block {b}")
    rows, cols = -(-n // b), -(-k // b)
    _require(crow.shape == (rows + 1,), f"{where}: {crow.size} crow_indices, expected {rows + 1}")
    _require(crow[0] == 0 and (np.diff(crow) >= 0).all() and crow[-1] == col.size,
             f"{where}: crow_indices do not rise from 0 to {col.size}")
    _require(((col >= 0) & (col < cols)).all(), f"{where}: a column is outside of 0 to {cols - 1}")
    row_of = np.repeat(np.arange(rows), np.diff(crow))
    _require((np.diff(row_of * cols + col) > 0).all(), f"{where}: columns of a row do not ascend")
    _require(matrix.values.shape == (col.size, b, b),
             f"{where}: values have shape {matrix.values.shape}, expected {(col.size, b, b)}")
    values = _as_numpy(matrix.values)
    inside = (row_of[:, None] * b + np.arange(b) < n)[:, :, None]
    inside = inside & (col[:, None] * b + np.arange(b) < k)[:, None, :]
    _require((values[~inside] == 0).all(), f"{where}: the padding is not zero")


def verify_seal(path):
    """Checks length and SHA-256 of a sealed HDF5 file."""
    with open(path, "rb") as file:
        head = file.read(SEAL_BYTES)
        digest = hashlib.sha256()
        while part := file.read(1 << 20):
            digest.update(part)
        size = file.tell()
    _require(not head.startswith(HDF5_SIGNATURE), f"{path}: plain HDF5, not sealed by hew")
    _require(head.startswith(b"hew-h5 "), f"{path}: not a sealed hew file")
    _require(head.startswith(b"hew-h5 1\n"), f"{path}: written by a newer hew")
    fields = head.split(b"\n")
    length = fields[2][7:] if len(fields) == 4 else b""
    _require(len(head) == SEAL_BYTES and length.isdigit(),
             f"{path}: the header is truncated or damaged")
    _require(size >= int(length), f"{path}: truncated, {size} of {int(length)} bytes are there")
    sealed = f"hew-h5 1\nsha256 {digest.hexdigest()}\nlength {size}\n".encode()
    _require(head == sealed.ljust(SEAL_BYTES, b"\0"),
             f"{path}: damaged, its content does not match its header")


def _load_hdf5(path):
    import h5py

    verify_seal(path)
    with h5py.File(path, "r") as file:
        _require(file.attrs["kind"] == "bsr", f"{path}: holds '{file.attrs['kind']}', not 'bsr'")
        _require(file.attrs["version"] <= BSR_VERSION, f"{path}: written by a newer hew")

        def dataset(node):
            values = node[()]
            return Bfloat16(values) if node.attrs.get("dtype") == "bfloat16" else values

        def load_node(node):
            if isinstance(node, h5py.Dataset):
                return dataset(node)
            _require(node.attrs.get("format") == "bsr", f"{path}: '{node.name}' is no matrix")
            return BlockSparse(
                (int(node.attrs["rows"]), int(node.attrs["cols"])), int(node.attrs["block"]),
                *(dataset(node[part]) for part in ("crow_indices", "col_indices", "values")))

        return {name: load_node(file[name]) for name in file if name != TOKENIZER}


def _read_safetensors(path):
    """All tensors and the metadata of a safetensors file."""
    with open(path, "rb") as file:
        data = file.read()
    _require(len(data) >= 8, f"{path}: truncated")
    (length,) = struct.unpack("<Q", data[:8])
    _require(8 + length <= len(data), f"{path}: truncated, or not safetensors")
    try:
        header = json.loads(data[8:8 + length])
    except ValueError:
        raise FormatError(f"{path}: not safetensors, the header is not JSON") from None
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        dtype = SAFETENSORS_DTYPES.get(entry["dtype"])
        _require(dtype is not None, f"{path}: tensor '{name}' has dtype {entry['dtype']}")
        _require(8 + length + end <= len(data), f"{path}: truncated at tensor '{name}'")
        part = data[8 + length + begin:8 + length + end]
        _require(len(part) == np.dtype(dtype).itemsize * int(np.prod(entry["shape"], dtype=int)),
                 f"{path}: tensor '{name}' does not fill its shape")
        values = np.frombuffer(part, dtype).reshape(entry["shape"])
        tensors[name] = Bfloat16(values) if entry["dtype"] == "BF16" else values
    return tensors, metadata


def _load_safetensors(path):
    tensors, metadata = _read_safetensors(path)
    tensors.pop(TOKENIZER, None)
    _require(int(metadata.get("hew.bsr.version", 1)) <= BSR_VERSION,
             f"{path}: written by a newer hew")
    suffix = ".crow_indices"
    for name in [key[:-len(suffix)] for key in tensors if key.endswith(suffix)]:
        for part in (".shape", ".block"):
            _require(name + part in metadata, f"{path}: metadata '{name + part}' is missing")
        tensors[name] = BlockSparse(
            tuple(json.loads(metadata[name + ".shape"])), int(metadata[name + ".block"]),
            *(tensors.pop(name + part) for part in (suffix, ".col_indices", ".values")))
    return tensors


def _is_hdf5(path):
    with open(path, "rb") as file:
        start = file.read(8)
    return start.startswith((b"hew-h5 ", HDF5_SIGNATURE)) or path.endswith((".h5", ".hdf5"))


def description(path):
    """What a whole model says of itself: config, steps, flops, tokenizer, recipe (YAML)."""
    path = str(path)
    if _is_hdf5(path):
        import h5py

        verify_seal(path)
        with h5py.File(path, "r") as file:
            text = file.attrs.get("model")
    else:
        text = _read_safetensors(path)[1].get("hew.model")
    _require(text is not None, f"{path}: weights without a description of their model")
    return json.loads(text)


def load(path):
    """{name: BlockSparse, numpy array, or Bfloat16 for a dense bfloat16 tensor}, sorted by name.

    Raises FormatError where the file is damaged or a matrix breaks an invariant.
    """
    path = str(path)
    tensors = _load_hdf5(path) if _is_hdf5(path) else _load_safetensors(path)
    for name, tensor in tensors.items():
        if isinstance(tensor, BlockSparse):
            _check(path, name, tensor)
    return dict(sorted(tensors.items()))


def main():
    parser = argparse.ArgumentParser(description="Lists the tensors of a file from `hew export`.")
    parser.add_argument("file")
    try:
        tensors = load(parser.parse_args().file)
    except (FormatError, ImportError) as error:
        sys.exit(f"load_bsr.py: {error}")
    except OSError as error:
        sys.exit(f"load_bsr.py: {error.filename}: {error.strerror}" if error.strerror else
                 f"load_bsr.py: {error}")
    for name, tensor in tensors.items():
        shape = list(tensor.shape)
        if isinstance(tensor, BlockSparse):
            print(f"{name}  bsr {tensor.dtype} {shape} block {tensor.block} "
                  f"live {len(tensor.col_indices)} sparsity {tensor.sparsity:.4f}")
        else:
            print(f"{name}  dense {_dtype_name(tensor)} {shape}")


if __name__ == "__main__":
    main()
