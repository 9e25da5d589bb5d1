"""What PyTorch needs of a hew run: the effective recipe, exported weights, dumped batches."""

import json
import math
import pathlib
import re
import struct
from typing import Any

import numpy as np
import torch

from gpt2_model import Gpt2, Shape


class FileError(Exception):
    """A file that is not what it should be; one line that names it."""


def require(condition: bool, text: str) -> None:
    if not condition:
        raise FileError(text)


def _value(text: str) -> Any:
    if text.startswith("["):
        return [_value(item.strip()) for item in text.strip("[]").split(",") if item.strip()]
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text.strip("\"'")


def read_recipe(path: pathlib.Path) -> dict[str, Any]:
    """`recipe.yaml` of a run as {"optim.schedule.warmup": value}. Reads what hew itself wrote
    there, every default filled in and one key a line, not YAML at large."""
    recipe: dict[str, Any] = {}
    sections: list[str] = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        found = re.fullmatch(r"( *)([a-z_0-9]+):(?: (.*))?", line)
        require(
            found is not None,
            f"{path}:{number}: expected `key: value`, as in the recipe of a dense run",
        )
        indent, key, value = found.groups()
        del sections[len(indent) // 2 :]
        if value is None:
            sections.append(key)
        else:
            recipe[".".join([*sections, key])] = _value(value)
    return recipe


def steps_of(mark: Any, total: int) -> int:
    """A step mark: a number, one counted from the end, or a percentage of the run."""
    if isinstance(mark, str) and mark.endswith("%"):
        return math.floor(float(mark[:-1]) * total / 100)
    return int(mark) if int(mark) >= 0 else total + int(mark)


def learning_rate(recipe: dict[str, Any], step: int) -> float:
    """optim/lr_schedule.cc, of the step with this index from 0."""
    total, peak_rate = recipe["train.steps"], recipe["optim.lr"]
    warmup = steps_of(recipe["optim.schedule.warmup"], total)
    if step < warmup:
        return peak_rate * (step + 1) / warmup
    name = recipe["optim.schedule.name"]
    start, last = max(warmup - 1, 0), total - 1
    if name == "wsd":
        start = max(start, last - steps_of(recipe["optim.schedule.decay"], total))
    fallen = min(1.0, (step - start) / max(last - start, 1)) if step > start else 0.0
    if name == "constant":
        fallen = 0.0
    elif name == "cosine":
        fallen = (1 - math.cos(math.pi * fallen)) / 2
    return peak_rate * (1 - (1 - recipe.get("optim.schedule.final", 1)) * fallen)


def shape_of(recipe: dict[str, Any], vocab: int) -> Shape:
    plain = {
        "model.family": "gpt2",
        "model.tied_embeddings": True,
        "model.bias": True,
        "model.activation": "gelu_tanh",
        "model.dropout": 0,
        "optim.name": "adamw",
    }
    for key, wanted in plain.items():
        require(recipe[key] == wanted, f"{key}: {recipe[key]}, the PyTorch model has {wanted}")
    return Shape(
        layers=recipe["model.layers"],
        heads=recipe["model.heads"],
        width=recipe["model.width"],
        context=recipe["model.context"],
        vocab=vocab,
        mlp_width=recipe["model.mlp_width"],
        norm_eps=recipe["model.norm_eps"],
    )


def read_weights(path: pathlib.Path) -> dict[str, torch.Tensor]:
    """Tensors of a safetensors file by hew's names. They must be float32: bfloat16 would not be the
    weights that hew starts from."""
    data = path.read_bytes()
    (header_bytes,) = struct.unpack_from("<Q", data)
    start = 8 + header_bytes
    weights = {}
    for name, entry in json.loads(data[8:start]).items():
        if name in ("__metadata__", "tokenizer.blob"):
            continue
        require(entry["dtype"] == "F32", f"{path}: {name} is {entry['dtype']}; export --dtype fp32")
        begin, end = entry["data_offsets"]
        values = np.frombuffer(data[start + begin : start + end], "<f4").reshape(entry["shape"])
        weights[name] = torch.from_numpy(values.copy())
    require(
        "token_embedding.weight" in weights,
        f"{path}: no token_embedding.weight; export --format safetensors",
    )
    return weights


def load_weights(model: Gpt2, weights: dict[str, torch.Tensor]) -> None:
    """Copies hew's parameters into the model: q, k, v joined, the others one to one."""
    state = {}
    for name, value in weights.items():
        if ".attn.k." in name or ".attn.v." in name:
            continue
        if ".attn.q." in name:
            value = torch.cat([weights[name.replace(".q.", f".{part}.")] for part in "qkv"])
            name = name.replace(".q.", ".qkv.")
        state[name.replace(".attn.", ".").replace(".mlp.", ".")] = value
    model.load_state_dict(state, strict=True)


def read_tokens(path: pathlib.Path, batch: int, context: int) -> np.ndarray:
    """Dumped batches [steps, batch, T + 1], int32 little-endian, not read before they are used."""
    row = batch * (context + 1)
    count = path.stat().st_size // 4
    require(
        count > 0 and path.stat().st_size % (4 * row) == 0,
        f"{path}: {count} int32, expected a multiple of {batch} x {context + 1}",
    )
    return np.memmap(path, dtype="<i4", mode="r").reshape(-1, batch, context + 1)
