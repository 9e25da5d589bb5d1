"""Records tests/golden/vit_{cls,mean}_tiny.safetensors from the model of reference_vit.py.

Tensors: parameter/NAME float32 (so that float32 and float64 runs start from the same numbers),
gradient/NAME float64, images [B, c, H, W] and targets [B, classes] float32, logits float64
[B, classes], loss float64 [1]. Metadata: `model`, the model's shape in JSON, and `smoothing`.
"""

import numpy as np

import golden_models
from reference_vit import VitShape, forward, loss_and_gradients, parameter_shapes

BATCH = 3
SMOOTHING = 0.11

SHAPES = {
    f"vit_{pooling}_tiny": VitShape(
        image_size=12,
        channels=3,
        patch_size=4,
        classes=10,
        layers=2,
        heads=4,
        width=24,
        mlp_width=41,
        pooling=pooling,
    )
    for pooling in ("cls", "mean")
}


def random_inputs(shape, random):
    size = shape.image_size
    images = random.standard_normal((BATCH, shape.channels, size, size)).astype(np.float32)
    targets = np.eye(shape.classes, dtype=np.float32)[random.randint(0, shape.classes, BATCH)]
    targets[1] = 0.75 * targets[1] + 0.25 * targets[2]  # as mixup makes them
    return images, targets


def make(name, folder):
    shape = SHAPES[name]
    random = np.random.RandomState(11)  # its stream is frozen across numpy versions
    params = golden_models.random_values(parameter_shapes(shape), random)
    images, targets = random_inputs(shape, random)
    wide = golden_models.widened(params)
    inputs = images.astype(np.float64), targets.astype(np.float64)
    loss, gradients = loss_and_gradients(shape, wide, *inputs, SMOOTHING)
    others = {
        "images": images,
        "targets": targets,
        "loss": np.array([loss]),
        "logits": np.asarray(forward(shape, wide, inputs[0])),
    }
    path = folder / f"{name}.safetensors"
    golden_models.save(path, shape, params, gradients, others, smoothing=str(SMOOTHING))


if __name__ == "__main__":
    golden_models.record(__doc__, make, SHAPES)
