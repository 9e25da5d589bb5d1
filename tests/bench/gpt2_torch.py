#!/usr/bin/env python3
"""Times training steps of a compiled bf16 GPT-2 in PyTorch: the opponent of hew's dense training.

A step is forward and loss in one compiled graph under bf16 autocast, backward, clipping of the
global gradient norm, and fused AdamW on float32 weights and moments. Random tokens lie on the GPU
before the clock starts, and nothing in a timed step waits for the GPU. Prints one JSON line:

    tokens_per_second   of all GPUs, from the median step between CUDA events
    mfu                 of 989 TFLOP/s a GPU, at 6 N + 12 L C T FLOPs a token
    allocated_gib       peak of PyTorch's tensors
    reserved_gib        peak of what its allocator holds
    device_gib          used on the device as nvidia-smi says, while the allocator holds its peak
    mem_get_info_gib    used on the device as cudaMemGetInfo says, then

Memory is taken over the timed steps alone: what compiling and tuning needed has been given back.
"""

import argparse
import dataclasses
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile

GIB = 1 << 30
COMPILE_MODES = ("default", "max-autotune-no-cudagraphs", "none")
ATTENTIONS = ("auto", "flash", "cudnn", "efficient")


@dataclasses.dataclass(frozen=True)
class Measurement:
    step_ms: float
    loss: float
    allocated_gib: float
    reserved_gib: float
    device_gib: float | None
    mem_get_info_gib: float


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=("124m", "774m", "1558m"), default="124m")
    parser.add_argument("--batch", type=int, help="sequences a step and GPU (64, 16, 8 by size)")
    parser.add_argument("--steps", type=int, default=40, help="timed steps")
    parser.add_argument("--warmup", type=int, default=10, help="steps before them")
    parser.add_argument("--compile-mode", choices=COMPILE_MODES, default="default")
    parser.add_argument("--attention", choices=ATTENTIONS, default="auto", help="SDPA backend")
    parser.add_argument(
        "--residual",
        choices=("float32", "bfloat16"),
        default="float32",
        help="dtype of the residual stream; float32 is what autocast alone gives",
    )
    parser.add_argument(
        "--allocator",
        choices=("default", "expandable"),
        default="expandable",
        help="expandable segments waste less memory at the same speed",
    )
    parser.add_argument(
        "--ddp",
        type=int,
        default=0,
        metavar="GPUS",
        help="one process a GPU, gradients averaged through NCCL every step",
    )
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.steps < 1 or arguments.warmup < 1:
        parser.error("--steps and --warmup: expected at least 1")
    return arguments


def choose_attention(name: str) -> None:
    import torch

    if name == "auto":
        return
    switches = {
        "flash": torch.backends.cuda.enable_flash_sdp,
        "cudnn": torch.backends.cuda.enable_cudnn_sdp,
        "efficient": torch.backends.cuda.enable_mem_efficient_sdp,
        "math": torch.backends.cuda.enable_math_sdp,
    }
    for backend, switch in switches.items():
        switch(backend == name)


def device_memory_gib(device: int) -> float | None:
    """What nvidia-smi counts as used on the GPU; None where there is no nvidia-smi."""
    import torch

    uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "-i", uuid]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True)
        return float(done.stdout.split()[0]) / 1024
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None


def make_model(arguments: argparse.Namespace, rank: int):
    """(what a step calls, the plain model, its shape)"""
    import torch
    from gpt2_model import SIZES, Gpt2

    torch.manual_seed(arguments.seed)
    shape = SIZES[arguments.size]
    model = Gpt2(shape, getattr(torch, arguments.residual)).to(f"cuda:{rank}")
    called = model
    if arguments.ddp:
        called = torch.nn.parallel.DistributedDataParallel(
            model, device_ids=[rank], gradient_as_bucket_view=True
        )
    if arguments.compile_mode != "none":
        called = torch.compile(
            called,
            mode=arguments.compile_mode,
            dynamic=False,
            fullgraph=not arguments.ddp,  # there the graph is cut at the gradient buckets
        )
    return called, model, shape


def random_batches(batch: int, context: int, rank: int, count: int = 4):
    import torch

    generator = torch.Generator(device=f"cuda:{rank}").manual_seed(1000 + rank)
    rows = torch.randint(
        50257, (count, batch, context + 1), generator=generator, device=f"cuda:{rank}"
    )
    return [(row[:, :-1].contiguous(), row[:, 1:].contiguous()) for row in rows]


def measure(arguments: argparse.Namespace, rank: int) -> tuple[Measurement, float]:
    """Also the FLOPs of a token."""
    import torch
    from gpt2_model import BATCHES, AdamWSettings, flops_per_token, make_adamw, parameter_count

    torch.cuda.set_device(rank)
    torch.set_float32_matmul_precision("high")
    choose_attention(arguments.attention)
    called, model, shape = make_model(arguments, rank)
    parameters = list(model.parameters())
    optimizer = make_adamw(model, AdamWSettings(lr=1e-4))
    batches = random_batches(arguments.batch or BATCHES[arguments.size], shape.context, rank)

    def step(number: int) -> torch.Tensor:
        with torch.autocast("cuda", torch.bfloat16):
            loss = called(*batches[number % len(batches)])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    for number in range(arguments.warmup):
        step(number)
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    for number in range(2):  # fills the cache that was just emptied
        step(number)
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(arguments.steps + 1)]
    marks[0].record()
    for number in range(arguments.steps):
        loss = step(number)
        marks[number + 1].record()
    torch.cuda.synchronize()
    free, total = torch.cuda.mem_get_info()
    durations = [start.elapsed_time(end) for start, end in itertools.pairwise(marks)]
    measurement = Measurement(
        step_ms=statistics.median(durations),
        loss=loss.item(),
        allocated_gib=torch.cuda.max_memory_allocated() / GIB,
        reserved_gib=torch.cuda.max_memory_reserved() / GIB,
        device_gib=device_memory_gib(rank),
        mem_get_info_gib=(total - free) / GIB,
    )
    return measurement, flops_per_token(shape, parameter_count(model))


def report(arguments: argparse.Namespace, measurement: Measurement, flops: float) -> None:
    import torch
    from gpt2_model import BATCHES, H100_BF16_FLOPS, SIZES

    gpus = max(arguments.ddp, 1)
    batch = arguments.batch or BATCHES[arguments.size]
    tokens = batch * SIZES[arguments.size].context * 1e3 / measurement.step_ms  # a second and GPU
    print(
        json.dumps(
            {
                "side": "torch",
                "size": arguments.size,
                "gpus": gpus,
                "batch": batch * gpus,
                "tokens_per_second": round(tokens * gpus, 1),
                "mfu": round(tokens * flops / H100_BF16_FLOPS, 4),
                **dataclasses.asdict(measurement),
                "compile_mode": arguments.compile_mode,
                "attention": arguments.attention,
                "residual": arguments.residual,
                "torch": torch.__version__,
                "device": torch.cuda.get_device_name(),
            }
        ),
        flush=True,
    )


def run_rank(rank: int, arguments: argparse.Namespace, rendezvous: str) -> None:
    if arguments.ddp:
        import torch

        torch.cuda.set_device(rank)
        torch.distributed.init_process_group(
            "nccl", init_method=f"file://{rendezvous}", rank=rank, world_size=arguments.ddp
        )
    measurement, flops = measure(arguments, rank)
    if not math.isfinite(measurement.loss):
        sys.exit(f"gpt2_torch: rank {rank}: the loss is {measurement.loss}")
    if rank == 0:
        report(arguments, measurement, flops)
    if arguments.ddp:
        torch.distributed.destroy_process_group()


def main() -> None:
    arguments = parse_arguments()
    if arguments.allocator == "expandable":
        os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    if not arguments.ddp:
        return run_rank(0, arguments, "")
    import torch

    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(
            run_rank, (arguments, os.path.join(folder, "rendezvous")), nprocs=arguments.ddp
        )


if __name__ == "__main__":
    main()
