"""What the scripts that record models in tests/golden/ share."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file


def random_values(shapes, random):
    """Every parameter far from where a model starts: norms off 1, biases off 0."""
    out = {}
    for name, dims in sorted(shapes.items()):
        value = 0.25 * random.standard_normal(dims)
        if "norm" in name and name.endswith(".weight"):
            value += 1.0
        out[name] = value.astype(np.float32)
    return out


def widened(params):
    return {name: value.astype(np.float64) for name, value in params.items()}


def save(path, shape, params, gradients, others, **metadata):
    """Parameters and gradients by name, and whatever else a model was given and gave."""
    tensors = {f"parameter/{name}": value for name, value in params.items()}
    tensors |= {f"gradient/{name}": np.asarray(value) for name, value in gradients.items()}
    metadata = {"model": json.dumps(asdict(shape))} | metadata
    save_file(tensors | others, path, metadata=metadata)
    path.chmod(0o644)  # safetensors writes 0o600


def record(doc, make, names):
    """The main program of a script: make(name, folder) for each name."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument(
        "folder", type=Path, nargs="?", default=Path(__file__).parents[1] / "golden"
    )
    folder = parser.parse_args().folder
    for name in names:
        make(name, folder)
