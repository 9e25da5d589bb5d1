"""Checks that tests/golden/ holds what the reference scripts produce, and the models' gradients.

Masks, ids, names and shapes must be equal; float64 values may differ by rounding, since numpy's
products sum in an order of their own. Prints what differs and ends with status 1.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from safetensors import safe_open

import blast_reference
import golden_models
import make_model_golden
import make_vit_golden
import reference_vit
import spartan_reference
from reference_models import cross_entropy, forward, loss_and_gradients

GOLDEN = Path(__file__).parents[1] / "golden"
ROUNDING = 1e-10  # of a tensor's largest value, after at most 24 training steps
DIFFERENCE_STEP = 1e-5
DIFFERENCE_TOLERANCE = 1e-8


def close(a, b):
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype != np.float64:
        return np.array_equal(a, b)
    error = np.abs(a - b)
    return bool(np.all(error <= ROUNDING * max(np.max(np.abs(b)), 1e-6)))  # false for NaN


def json_differences(a, b, where):
    """Places in which two trees of dicts, lists and numbers differ."""
    if isinstance(a, dict) and isinstance(b, dict):
        if a.keys() != b.keys():
            return [f"{where}: keys {sorted(a)} and {sorted(b)}"]
        return [line for key in a for line in json_differences(a[key], b[key], f"{where}/{key}")]
    if isinstance(a, list) and isinstance(b, list) and a and isinstance(a[0], dict):
        if len(a) != len(b):
            return [f"{where}: {len(a)} and {len(b)} entries"]
        pairs = enumerate(zip(a, b, strict=True))
        return [line for i, (x, y) in pairs for line in json_differences(x, y, f"{where}/{i}")]
    if isinstance(a, str) or a is None:
        return [] if a == b else [f"{where}: {a} and {b}"]
    return [] if close(a, b) else [f"{where}: values differ"]


def safetensors_differences(a, b, where):
    with safe_open(a, "np") as one, safe_open(b, "np") as other:
        if one.metadata() != other.metadata() or set(one.keys()) != set(other.keys()):
            return [f"{where}: metadata or names differ"]
        names = sorted(one.keys())
        return [
            f"{where}/{name}: values differ"
            for name in names
            if not close(one.get_tensor(name), other.get_tensor(name))
        ]


def golden_differences(fresh):
    """Recorded files against those just made in the folder `fresh`."""
    found = []
    for path in sorted(fresh.iterdir()):
        recorded = GOLDEN / path.name
        if not recorded.exists():
            found.append(f"{path.name}: not recorded")
        elif path.suffix == ".json":
            trees = json.loads(recorded.read_text()), json.loads(path.read_text())
            found += json_differences(*trees, path.name)
        else:
            found += safetensors_differences(recorded, path, path.name)
    return found


def gradient_differences(name):
    """Gradients of a reference model against central differences along random directions."""
    shape = make_model_golden.SHAPES[name]
    random = np.random.RandomState(3)
    params = golden_models.widened(make_model_golden.random_parameters(shape, random))
    ids = random.randint(0, shape.vocab, (2, 5))
    targets = random.randint(0, shape.vocab, (2, 5))
    _, gradients = loss_and_gradients(shape, params, ids, targets)

    def loss_of(moved):
        return cross_entropy(forward(shape, moved, ids), targets)

    return slope_differences(name, params, gradients, loss_of, random)


def vit_gradient_differences(name):
    shape = make_vit_golden.SHAPES[name]
    random = np.random.RandomState(3)
    values = golden_models.random_values(reference_vit.parameter_shapes(shape), random)
    params = golden_models.widened(values)
    images, targets = make_vit_golden.random_inputs(shape, random)
    smoothing = make_vit_golden.SMOOTHING
    _, gradients = reference_vit.loss_and_gradients(shape, params, images, targets, smoothing)

    def loss_of(moved):
        logits = reference_vit.forward(shape, moved, images)
        return reference_vit.cross_entropy(logits, targets, smoothing)

    return slope_differences(name, params, gradients, loss_of, random)


def slope_differences(name, params, gradients, loss_of, random):
    found = []
    for key, value in params.items():
        direction = random.standard_normal(value.shape)
        direction /= np.linalg.norm(direction)

        def loss_at(t, key=key, value=value, direction=direction):
            return loss_of(params | {key: value + t * direction})

        slope = (loss_at(DIFFERENCE_STEP) - loss_at(-DIFFERENCE_STEP)) / (2 * DIFFERENCE_STEP)
        expected = np.sum(gradients[key] * direction)
        if not abs(slope - expected) <= DIFFERENCE_TOLERANCE * max(1.0, abs(slope)):
            found.append(f"{name}/{key}: slope {slope:.12g}, gradient says {expected:.12g}")
    return found


def main():
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        for name in make_model_golden.SHAPES:
            make_model_golden.make(name, fresh)
        for name in make_vit_golden.SHAPES:
            make_vit_golden.make(name, fresh)
        blast_reference.make(fresh)
        spartan_reference.make(fresh)
        found = golden_differences(fresh)
    for name in make_model_golden.SHAPES:
        found += gradient_differences(name)
    for name in make_vit_golden.SHAPES:
        found += vit_gradient_differences(name)
    for line in found:
        print(line, file=sys.stderr)
    if found:
        return 1
    print("goldens: as the reference scripts produce them")
    return 0


if __name__ == "__main__":
    sys.exit(main())
