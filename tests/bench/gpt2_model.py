"""GPT-2 as one would write it in PyTorch: what hew is timed against and whose loss it must follow.

Pre-norm blocks with one fused q, k, v projection, scaled_dot_product_attention, GELU (tanh), biases
everywhere, a head tied to the token embedding, no dropout. Meant to run under bf16 autocast with
float32 weights, loss included, in one torch.compile.
"""

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import nn

H100_BF16_FLOPS = 989e12  # dense tensor-core peak of the SXM part, NVIDIA's data sheet


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes of a model; the vocabulary is GPT-2's, padded to a multiple of 64."""

    layers: int
    heads: int
    width: int
    context: int = 1024
    vocab: int = 50304
    mlp_width: int = 0  # 0: 4 * width
    norm_eps: float = 1e-5
    init_std: float = 0.02

    @property
    def inner(self) -> int:
        return self.mlp_width or 4 * self.width


SIZES = {
    "124m": Shape(layers=12, heads=12, width=768),
    "774m": Shape(layers=36, heads=20, width=1280),
    "1558m": Shape(layers=48, heads=25, width=1600),
}
BATCHES = {"124m": 64, "774m": 16, "1558m": 8}


class Block(nn.Module):
    """x + attention(norm1(x)), then x + mlp(norm2(x)); x is [B, T, C]."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.norm1 = nn.LayerNorm(shape.width, eps=shape.norm_eps)
        self.qkv = nn.Linear(shape.width, 3 * shape.width)
        self.out = nn.Linear(shape.width, shape.width)
        self.norm2 = nn.LayerNorm(shape.width, eps=shape.norm_eps)
        self.up = nn.Linear(shape.width, shape.inner)
        self.down = nn.Linear(shape.inner, shape.width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, width = x.shape
        joined = self.qkv(self.norm1(x)).view(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = (part.transpose(1, 2) for part in joined.unbind(2))  # [B, H, T, D]
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).reshape(batch, tokens, width))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class Gpt2(nn.Module):
    """Mean next-token loss of ids and targets, both [B, T] int64.

    `residual` is the dtype of the stream that the blocks add to: autocast alone leaves it float32,
    because the embeddings are; bfloat16 reads and writes half as much.
    """

    def __init__(self, shape: Shape, residual: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.residual = residual
        self.token_embedding = nn.Embedding(shape.vocab, shape.width)
        self.position_embedding = nn.Embedding(shape.context, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.final_norm = nn.LayerNorm(shape.width, eps=shape.norm_eps)
        self._initialise(shape)

    def _initialise(self, shape: Shape) -> None:
        residual_std = shape.init_std / math.sqrt(2 * shape.layers)
        for name, parameter in self.named_parameters():
            if name.endswith(".bias"):
                nn.init.zeros_(parameter)
            elif parameter.ndim == 2:
                ends_in_add = name.endswith((".out.weight", ".down.weight"))
                nn.init.normal_(parameter, std=residual_std if ends_in_add else shape.init_std)

    def forward(self, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        positions = torch.arange(ids.shape[1], device=ids.device)
        x = (self.token_embedding(ids) + self.position_embedding(positions)).to(self.residual)
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.final_norm(x), self.token_embedding.weight)
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


def decays(name: str, parameter: torch.Tensor) -> bool:
    """Matrices and the token embedding decay; biases, norms and positions do not."""
    return parameter.ndim == 2 and not name.startswith("position_embedding")


@dataclasses.dataclass(frozen=True)
class AdamWSettings:
    lr: float
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.1


def make_adamw(model: nn.Module, settings: AdamWSettings) -> torch.optim.AdamW:
    """AdamW in one fused kernel per group."""
    named = list(model.named_parameters())
    groups = [
        {
            "params": [p for name, p in named if decays(name, p) == wanted],
            "weight_decay": settings.weight_decay if wanted else 0.0,
        }
        for wanted in (True, False)
    ]
    return torch.optim.AdamW(
        groups, lr=settings.lr, betas=settings.betas, eps=settings.eps, fused=True
    )


def parameter_count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def flops_per_token(shape: Shape, parameters: int) -> float:
    """6 N + 12 L C T: three products with every parameter, and attention counted in full (PaLM's
    convention, Chowdhery et al. 2022, appendix B)."""
    return 6.0 * parameters + 12.0 * shape.layers * shape.width * shape.context
