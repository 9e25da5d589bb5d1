#!/usr/bin/env python3
"""Times timm's ViT in PyTorch: the opponent of hew's vision transformers. Needs torch and timm.

    forward   the model in evaluation, without gradients
    train     forward and loss under autocast, backward, clipping, fused AdamW on float32 weights

Random images lie on the GPU before the clock starts. With --sparsity the MLPs' weights are PyTorch's BSR
tensors with random blocks (forward only, and not compiled: it has no fast path there), as SuperBlock
runs them. Prints one JSON line for each batch, sparsity and block:

    ms                  median between CUDA events
    images_per_second
    device_gib          used on the device as cudaMemGetInfo says
"""

import argparse
import itertools
import json
import statistics
import sys

GIB = 1 << 30


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="vit_base_patch16_224")
    parser.add_argument("--what", choices=("forward", "train"), default="forward")
    parser.add_argument("--dtype", choices=("bf16", "tf32", "fp32"), default="bf16")
    parser.add_argument("--batch", type=int, nargs="+", default=[256])
    parser.add_argument("--sparsity", type=float, nargs="+", help="of the MLPs, as BSR")
    parser.add_argument("--block", type=int, nargs="+", default=[64])
    parser.add_argument("--compile-mode", default="default", help="of torch.compile; none: eager")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--warmup", type=int, default=8)
    arguments = parser.parse_args()
    if arguments.sparsity is not None and arguments.what == "train":
        parser.error("--sparsity: PyTorch's BSR has no fast backward")
    return arguments


def use_bsr(model, sparsity: float, block: int) -> None:
    """Random live blocks in every MLP weight, which becomes a BSR tensor."""
    import torch

    generator = torch.Generator().manual_seed(1)
    for name, module in model.named_modules():
        if not (isinstance(module, torch.nn.Linear) and ".mlp." in name):
            continue
        rows, cols = module.out_features // block, module.in_features // block
        dead = torch.randperm(rows * cols, generator=generator)[: round(sparsity * rows * cols)]
        mask = torch.ones(rows * cols)
        mask[dead] = 0
        mask = mask.view(rows, 1, cols, 1).expand(rows, block, cols, block)
        mask = mask.reshape(rows * block, cols * block).to(module.weight)
        sparse = (module.weight.detach() * mask).to_sparse_bsr(blocksize=block)
        module.weight = torch.nn.Parameter(sparse, requires_grad=False)


def make_call(arguments: argparse.Namespace, batch: int, sparsity: float | None, block: int):
    """What is timed, for a batch of images; dense without a sparsity."""
    import timm
    import torch

    torch.manual_seed(1)
    torch.backends.cuda.matmul.allow_tf32 = arguments.dtype != "fp32"
    torch.backends.cudnn.allow_tf32 = arguments.dtype != "fp32"
    model = timm.create_model(arguments.model, num_classes=1000).cuda()
    images = torch.randn(batch, 3, *model.patch_embed.img_size, device="cuda")
    if arguments.what == "forward":
        if arguments.dtype == "bf16":
            model, images = model.bfloat16(), images.bfloat16()
        model.eval().requires_grad_(False)
        if sparsity is not None:
            use_bsr(model, sparsity, block)
            return torch.no_grad()(lambda: model(images))
        if arguments.compile_mode != "none":
            model = torch.compile(model, mode=arguments.compile_mode, dynamic=False)
        return torch.no_grad()(lambda: model(images))

    labels = torch.randint(1000, (batch,), device="cuda")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.3, fused=True)
    parameters = list(model.parameters())

    def loss_of(pixels, wanted):
        return torch.nn.functional.cross_entropy(model(pixels), wanted, label_smoothing=0.1)

    if arguments.compile_mode != "none":
        loss_of = torch.compile(loss_of, mode=arguments.compile_mode, dynamic=False)

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16, enabled=arguments.dtype == "bf16"):
            loss = loss_of(images, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def measure(arguments: argparse.Namespace, batch: int, sparsity: float | None, block: int) -> dict:
    import torch

    call = make_call(arguments, batch, sparsity, block)
    for _ in range(arguments.warmup):
        call()
    torch.cuda.synchronize()
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(arguments.repeats + 1)]
    marks[0].record()
    for mark in marks[1:]:
        call()
        mark.record()
    torch.cuda.synchronize()
    free, total = torch.cuda.mem_get_info()
    ms = statistics.median(start.elapsed_time(end) for start, end in itertools.pairwise(marks))
    return {
        "side": "torch",
        "model": arguments.model,
        "what": arguments.what,
        "dtype": arguments.dtype,
        "batch": batch,
        "sparsity": sparsity or 0,
        "block": block if sparsity is not None else 0,
        "compile_mode": "none" if sparsity is not None else arguments.compile_mode,
        "ms": round(ms, 4),
        "images_per_second": round(batch / ms * 1e3, 1),
        "device_gib": round((total - free) / GIB, 2),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(),
    }


def main() -> None:
    arguments = parse_arguments()
    try:
        import timm  # noqa: F401
        import torch
    except ImportError as error:
        sys.exit(f"vit_torch: {error}")
    if not torch.cuda.is_available():
        sys.exit("vit_torch: no GPU")
    blocks = arguments.block if arguments.sparsity else arguments.block[:1]
    for cell in itertools.product(arguments.batch, arguments.sparsity or [None], blocks):
        try:
            print(json.dumps(measure(arguments, *cell)), flush=True)
        except RuntimeError as error:  # a shape that a kernel of PyTorch's refuses
            print(f"vit_torch: {cell}: {str(error).splitlines()[0]}", file=sys.stderr)


if __name__ == "__main__":
    main()
