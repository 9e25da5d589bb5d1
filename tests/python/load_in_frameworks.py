"""Trains tiny models with hew and loads their dense exports into transformers and timm themselves.

    load_in_frameworks.py       # needs torch, transformers, timm, and what the checks need

The models are those of check_export.py and check_vit_export.py, which check the same folders in
numpy. State dicts are loaded strictly. Logits (of a ViT: log probabilities) must agree with those
that hew computes to 1e-5 of the largest. By hand only: PyTorch is no part of hew's tests.
"""

import json
import math
import sys
import tempfile
from pathlib import Path

import numpy as np
import timm
import torch
import transformers

import check_export
import check_vit_export
import load_bsr

TOLERANCE = 1e-5


def report(name, error):
    print(f"{name}: differs by {error:.1e}")
    return error <= TOLERANCE  # false for NaN


def language_model(checker, name, overrides):
    run = checker.train(name, overrides)
    folder, dump = checker.scratch / f"{name}-hf", checker.scratch / f"{name}.safetensors"
    checker.call("eval", run, "--dump-logits", dump)
    checker.call("export", run, "--format", "dense-safetensors", "-o", folder)
    model, found = transformers.AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True
    )
    assert not found["missing_keys"] and not found["unexpected_keys"], found
    wanted = load_bsr.load(dump)
    ids = torch.from_numpy(wanted["ids"].astype(np.int64))[None]
    with torch.no_grad():
        logits = model.eval()(ids).logits[0].numpy()
    return np.abs(logits - wanted["logits"]).max() / np.abs(wanted["logits"]).max()


def vision_transformer(checker, name, overrides, images):
    (checker.folder / "recipe.yaml").write_text(check_vit_export.RECIPE)
    checker.call("train", "recipe.yaml", f"run.dir={name}", *overrides)
    folder = checker.folder / f"{name}-timm"
    checker.call("export", name, "--format", "dense-safetensors", "-o", folder)
    config = json.loads((folder / "config.json").read_text())
    model = timm.create_model(f"local-dir:{folder}", pretrained=True)
    kept = config["pretrained_cfg"]
    pixels = np.stack([p for _, p in images])[:, None] / 255.0
    prepared = torch.tensor((pixels - kept["mean"][0]) / kept["std"][0], dtype=torch.float32)
    with torch.no_grad():
        found = torch.log_softmax(model.eval()(prepared), -1).numpy()
    paths = [path for path, _ in images]
    lines = checker.call("predict", name, *paths, "--top", check_vit_export.CLASSES, "--json")
    wanted = np.empty_like(found)
    for row, line in zip(wanted, lines.splitlines(), strict=True):
        for entry in json.loads(line)["classes"]:
            row[entry["class"]] = math.log(entry["probability"])
    return np.abs(found - wanted).max()


def main():
    good = True
    with tempfile.TemporaryDirectory() as folder:
        checker = check_export.Checker(check_vit_export.HEW, Path(folder).resolve())
        for name, overrides in check_export.TRAINING.items():
            good &= report(f"transformers, {name}", language_model(checker, name, overrides))
    with tempfile.TemporaryDirectory() as folder:
        checker = check_vit_export.Checker(Path(folder).resolve())
        images = list(checker.make_images())
        for name, overrides in check_vit_export.TRAINING.items():
            error = vision_transformer(checker, name, overrides, images)
            good &= report(f"timm, ViT {name}", error)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
