"""Records tests/golden/{gpt2,llama}_tiny.safetensors from the models of reference_models.py.

Tensors: parameter/NAME float32 (so that float32 and float64 runs start from the same numbers),
gradient/NAME float64, ids and targets int32 [B, T], logits float64 [B·T, V], loss float64 [1].
Metadata: `model`, the model's shape in JSON.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from reference_models import ModelShape, forward, loss_and_gradients, parameter_shapes

BATCH = 3
TOKENS = 11

SHAPES = {
    "gpt2_tiny": ModelShape(
        family="gpt2",
        layers=2,
        heads=4,
        kv_heads=4,
        width=24,
        mlp_width=41,
        context=TOKENS,
        vocab=29,
        tied_embeddings=True,
        bias=True,
        norm_eps=1e-5,
    ),
    "llama_tiny": ModelShape(
        family="llama",
        layers=2,
        heads=4,
        kv_heads=2,
        width=24,
        mlp_width=41,
        context=TOKENS,
        vocab=29,
        tied_embeddings=False,
        bias=False,
        norm_eps=1e-6,
    ),
}


def random_parameters(shape, random):
    return random_values(parameter_shapes(shape), random)


def random_values(shapes, random):
    """Every parameter far from where a model starts: norms off 1, biases off 0."""
    out = {}
    for name, dims in sorted(shapes.items()):
        value = 0.25 * random.standard_normal(dims)
        if "norm" in name and name.endswith(".weight"):
            value += 1.0
        out[name] = value.astype(np.float32)
    return out


def make(name, folder):
    shape = SHAPES[name]
    random = np.random.RandomState(7)  # its stream is frozen across numpy versions
    params = random_parameters(shape, random)
    ids = random.randint(0, shape.vocab, (BATCH, TOKENS)).astype(np.int32)
    targets = random.randint(0, shape.vocab, (BATCH, TOKENS)).astype(np.int32)
    wide = {key: value.astype(np.float64) for key, value in params.items()}
    loss, gradients = loss_and_gradients(shape, wide, ids, targets)
    tensors = {f"parameter/{key}": value for key, value in params.items()}
    tensors |= {f"gradient/{key}": np.asarray(value) for key, value in gradients.items()}
    tensors["ids"] = ids
    tensors["targets"] = targets
    tensors["logits"] = forward(shape, wide, ids).reshape(BATCH * TOKENS, shape.vocab)
    tensors["loss"] = np.array([loss])
    path = folder / f"{name}.safetensors"
    save_file(tensors, path, metadata={"model": json.dumps(asdict(shape))})
    path.chmod(0o644)  # safetensors writes 0o600


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "folder", type=Path, nargs="?", default=Path(__file__).parents[1] / "golden"
    )
    folder = parser.parse_args().folder
    for name in SHAPES:
        make(name, folder)


if __name__ == "__main__":
    main()
