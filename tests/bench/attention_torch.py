#!/usr/bin/env python3
"""Times PyTorch's scaled_dot_product_attention, forward and backward, causal, bf16, by backend.

The number of tokens stays, so T=4096 means fewer sequences than T=1024. q, k, v and the gradient of
the output are contiguous [B, T, H, D], transposed to [B, H, T, D] as in a model. Each backend runs
by itself, back to back, as `hew bench kernels --only attention` does (beside a slower one the GPU
stays cooler, and its clock higher). Each figure is the median between CUDA events. One JSON line a
backend and shape, then one with the best of each shape ("best": true).
"""

import argparse
import dataclasses
import json
import statistics
import sys
from collections.abc import Callable

BACKENDS = {
    "flash": "FLASH_ATTENTION",
    "cudnn": "CUDNN_ATTENTION",
    "efficient": "EFFICIENT_ATTENTION",
}


@dataclasses.dataclass(frozen=True)
class Case:
    """A layer's attention; `head` is the width of one head."""

    batch: int
    tokens: int
    heads: int
    head: int

    def tflop(self, passes: float) -> float:
        """Of a causal product pair, half the square; forward is 2 products, backward 5."""
        pairs = self.batch * self.heads * self.tokens**2 / 2
        return passes * 2 * pairs * self.head / 1e12


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokens", type=int, default=65536, help="B*T (default %(default)s)")
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 4096], help="T")
    parser.add_argument(
        "--heads",
        nargs="+",
        default=["64:768", "128:2048"],
        metavar="D:C",
        help="head width and H*D (default 64:768 128:2048)",
    )
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=list(BACKENDS))
    parser.add_argument("--repeats", type=int, default=30, help="timed rounds")
    parser.add_argument("--warmup", type=int, default=5, help="rounds before them")
    return parser.parse_args()


def cases(arguments: argparse.Namespace) -> list[Case]:
    out = []
    for pair in arguments.heads:
        head, width = map(int, pair.split(":"))
        for tokens in arguments.lengths:
            out.append(Case(arguments.tokens // tokens, tokens, width // head, head))
    return out


def make_passes(case: Case, backend: str) -> tuple[Callable[[], None], Callable[[], None]]:
    """(forward alone, forward and backward). Throws RuntimeError where the backend does not fit."""
    import torch
    import torch.nn.functional as F
    from torch.nn.attention import SDPBackend, sdpa_kernel

    def values() -> torch.Tensor:
        shape = (case.batch, case.tokens, case.heads, case.head)
        return torch.randn(shape, device="cuda", dtype=torch.bfloat16).transpose(1, 2)

    q, k, v = (values().requires_grad_() for _ in range(3))
    d_out = values()
    chosen = getattr(SDPBackend, BACKENDS[backend])

    def forward() -> None:
        with torch.no_grad(), sdpa_kernel(chosen):
            F.scaled_dot_product_attention(q, k, v, is_causal=True)

    def both() -> None:
        with sdpa_kernel(chosen):
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        torch.autograd.grad(out, (q, k, v), d_out)

    both()
    torch.cuda.synchronize()
    return forward, both


def median_ms(run: Callable[[], None], warmup: int, repeats: int) -> float:
    import torch

    marks: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
    for turn in range(warmup + repeats):
        start = torch.cuda.Event(enable_timing=True)
        end = torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        end.record()
        if turn >= warmup:
            marks.append((start, end))
    torch.cuda.synchronize()
    return statistics.median(start.elapsed_time(end) for start, end in marks)


def measure(case: Case, arguments: argparse.Namespace) -> list[dict[str, object]]:
    """A record for each backend that can do the case."""
    records = []
    for backend in arguments.backends:
        try:
            forward, both = make_passes(case, backend)
        except RuntimeError as error:
            print(f"attention_torch: {backend}: {case}: {error}", file=sys.stderr)
            continue
        forward_ms = median_ms(forward, arguments.warmup, arguments.repeats)
        both_ms = median_ms(both, arguments.warmup, arguments.repeats)
        records.append(
            {
                "side": "torch",
                "op": "attention",
                **dataclasses.asdict(case),
                "backend": backend,
                "forward_ms": round(forward_ms, 4),
                "forward_backward_ms": round(both_ms, 4),
                "forward_tflops": round(case.tflop(2) / forward_ms * 1e3, 1),
                "forward_backward_tflops": round(case.tflop(7) / both_ms * 1e3, 1),
            }
        )
    return records


def main() -> int:
    arguments = parse_arguments()
    import torch

    if not torch.cuda.is_available():
        sys.exit("attention_torch: no GPU")
    torch.manual_seed(1)
    failed = False
    for case in cases(arguments):
        records = measure(case, arguments)
        for record in records:
            print(json.dumps(record), flush=True)
        if not records:
            failed = True
            continue
        best = min(records, key=lambda record: record["forward_backward_ms"])
        print(json.dumps({**best, "best": True}), flush=True)
        torch.cuda.empty_cache()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
