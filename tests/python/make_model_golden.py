"""Records tests/golden/{gpt2,llama}_tiny.safetensors from the models of reference_models.py.

Tensors: parameter/NAME float32 (so that float32 and float64 runs start from the same numbers),
gradient/NAME float64, ids and targets int32 [B, T], logits float64 [B·T, V], loss float64 [1].
Metadata: `model`, the model's shape in JSON.
"""

import numpy as np

import golden_models
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
    return golden_models.random_values(parameter_shapes(shape), random)


def make(name, folder):
    shape = SHAPES[name]
    random = np.random.RandomState(7)  # its stream is frozen across numpy versions
    params = random_parameters(shape, random)
    ids = random.randint(0, shape.vocab, (BATCH, TOKENS)).astype(np.int32)
    targets = random.randint(0, shape.vocab, (BATCH, TOKENS)).astype(np.int32)
    wide = golden_models.widened(params)
    loss, gradients = loss_and_gradients(shape, wide, ids, targets)
    others = {
        "ids": ids,
        "targets": targets,
        "logits": forward(shape, wide, ids).reshape(BATCH * TOKENS, shape.vocab),
        "loss": np.array([loss]),
    }
    golden_models.save(folder / f"{name}.safetensors", shape, params, gradients, others)


if __name__ == "__main__":
    golden_models.record(__doc__, make, SHAPES)
