#!/usr/bin/env python3
"""Trains the PyTorch twin of a dense hew run: same initial weights, batches, schedule, optimizer.

    hew train RECIPE.yaml run.dir=RUN_AT_STEP_0 --stop-after 0
    hew data batches RECIPE.yaml --steps N tokens.bin
    hew export RUN_AT_STEP_0 --format safetensors --dtype fp32 -o init.safetensors
    curve_torch.py --recipe RUN/recipe.yaml --weights init.safetensors --tokens tokens.bin \\
                   --output twin.jsonl
    compare_curves.py RUN/metrics.jsonl twin.jsonl

The recipe is the effective one that hew keeps in the run's folder, so that nothing is said twice.
tokens.bin holds the batches in the order of the steps, [steps, batch, T + 1] int32. Each line of
the output is {"step": 1, "loss": nats per token, "lr": …, "grad_norm": …}; the loss is that of the
batch before its update, as hew logs it.
"""

import argparse
import json
import pathlib
import sys
import time

import numpy as np
import torch
from gpt2_model import AdamWSettings, Gpt2, make_adamw
from hew_files import (
    FileError,
    learning_rate,
    load_weights,
    read_recipe,
    read_tokens,
    read_weights,
    require,
    shape_of,
)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", type=pathlib.Path, required=True, help="recipe.yaml of the run")
    parser.add_argument("--weights", type=pathlib.Path, required=True, help="safetensors, fp32")
    parser.add_argument("--tokens", type=pathlib.Path, required=True, help="int32 batches")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="JSON lines to write")
    parser.add_argument("--steps", type=int, help="fewer than the recipe's; its schedule stays")
    parser.add_argument("--micro-batch", type=int, default=0, help="sequences at a time; 0: all")
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--residual", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--no-compile", action="store_true")
    return parser.parse_args()


class Twin:
    """A model and its optimizer, and one step of training."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.recipe = read_recipe(arguments.recipe)
        weights = read_weights(arguments.weights)
        shape = shape_of(self.recipe, vocab=weights["token_embedding.weight"].shape[0])
        self.device = torch.device(arguments.device)
        self.bf16 = arguments.precision == "bf16"
        self.model = Gpt2(shape, getattr(torch, arguments.residual))
        load_weights(self.model, weights)
        self.model.to(self.device)
        self.called = self.model
        if not arguments.no_compile:
            self.called = torch.compile(self.model, dynamic=False, fullgraph=True)
        self.parameters = list(self.model.parameters())
        self.optimizer = make_adamw(
            self.model,
            AdamWSettings(
                lr=self.recipe["optim.lr"],
                betas=tuple(self.recipe["optim.betas"]),
                eps=self.recipe["optim.eps"],
                weight_decay=self.recipe["optim.weight_decay"],
            ),
        )

    def gradients(self, rows: np.ndarray, micro_batch: int) -> torch.Tensor:
        """Adds up the gradients of the mean loss over rows [batch, T + 1]; returns that loss."""
        ids = torch.from_numpy(rows.astype(np.int64)).to(self.device)
        parts = ids.split(micro_batch or len(ids))
        require(len(ids) % len(parts) == 0, f"--micro-batch does not divide a batch of {len(ids)}")
        total = torch.zeros((), device=self.device)
        for part in parts:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                loss = self.called(part[:, :-1].contiguous(), part[:, 1:].contiguous())
            (loss / len(parts)).backward()
            total += loss.detach() / len(parts)
        return total

    def step(self, index: int, rows: np.ndarray, micro_batch: int) -> dict[str, float]:
        rate = learning_rate(self.recipe, index)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = self.gradients(rows, micro_batch)
        limit = self.recipe["optim.clip_norm"] or float("inf")
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, limit, foreach=True)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return {"step": index + 1, "loss": loss.item(), "lr": rate, "grad_norm": norm.item()}


def train(arguments: argparse.Namespace) -> None:
    twin = Twin(arguments)
    batch, context = twin.recipe["train.batch"], twin.recipe["model.context"]
    tokens = read_tokens(arguments.tokens, batch, context)
    steps = arguments.steps or twin.recipe["train.steps"]
    require(len(tokens) >= steps, f"{arguments.tokens}: {len(tokens)} batches for {steps} steps")
    start = time.monotonic()
    with arguments.output.open("w") as output:
        for index in range(steps):
            record = twin.step(index, tokens[index], arguments.micro_batch)
            output.write(json.dumps(record) + "\n")
            output.flush()
            if (index + 1) % 50 == 0 or index + 1 == steps:
                print(
                    f"step {index + 1}/{steps}  loss {record['loss']:.4f}  "
                    f"{time.monotonic() - start:.0f} s",
                    flush=True,
                )


def main() -> None:
    arguments = parse_arguments()
    torch.set_float32_matmul_precision("highest")
    try:
        train(arguments)
    except (FileError, OSError, KeyError) as error:
        sys.exit(f"curve_torch: {error}")


if __name__ == "__main__":
    main()
