"""A vision transformer in plain numpy, float64, as an independent check of hew's.

Written from Dosovitskiy et al. 2021 and the semantics of timm's VisionTransformer (pre-norm blocks,
exact GELU, patch embedding as a strided convolution), not from hew's sources. Label smoothing:
Szegedy et al. 2016. Gradients come from the package `autograd`.

Parameters are a flat dict by hew's names; a matrix is [out, in]; B batch, T tokens, C channels.
"""

from dataclasses import dataclass

import autograd.numpy as np
from autograd import value_and_grad

from reference_models import gelu, layer_norm, linear, log_softmax


@dataclass(frozen=True)
class VitShape:
    image_size: int
    channels: int
    patch_size: int
    classes: int
    layers: int
    heads: int
    width: int
    mlp_width: int
    pooling: str  # "cls" or "mean"
    norm_eps: float = 1e-6

    @property
    def patches(self):
        return (self.image_size // self.patch_size) ** 2

    @property
    def tokens(self):
        return self.patches + (self.pooling == "cls")


def parameter_shapes(shape):
    """Name -> dimensions of every parameter of the model."""
    width = shape.width
    linears = {
        "patch_embedding": (width, shape.channels * shape.patch_size**2),
        "head": (shape.classes, width),
    }
    norms = ["final_norm"]
    for i in range(shape.layers):
        block = f"blocks.{i}"
        norms += [f"{block}.norm1", f"{block}.norm2"]
        linears |= {f"{block}.attn.{part}": (width, width) for part in ("q", "k", "v", "out")}
        linears |= {
            f"{block}.mlp.up": (shape.mlp_width, width),
            f"{block}.mlp.down": (width, shape.mlp_width),
        }
    out = {"position_embedding.weight": (shape.tokens, width)}
    if shape.pooling == "cls":
        out["class_token"] = (width,)
    for name, dims in linears.items():
        out |= {f"{name}.weight": dims, f"{name}.bias": dims[:1]}
    for name in norms:
        out |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    return out


def convolution(images, weight, stride):
    """images [B, c, H, W], weight [C, c, p, p], stride p -> [B, H/p · W/p, C]."""
    batch, channels, height, width = images.shape
    down, across = height // stride, width // stride
    rows = []
    for i in range(down):
        for j in range(across):
            window = images[:, :, i * stride : (i + 1) * stride, j * stride : (j + 1) * stride]
            rows.append(np.einsum("bcuv,ocuv->bo", window, weight))
    return np.stack(rows, axis=1)


def attention(shape, params, name, x):
    """Every token sees every token, x [B, T, C]."""
    batch, tokens, width = x.shape

    def split(part):
        y = linear(params, f"{name}.{part}", x)
        y = np.reshape(y, (batch, tokens, shape.heads, width // shape.heads))
        return np.transpose(y, (0, 2, 1, 3))

    q, k, v = split("q"), split("k"), split("v")
    scores = np.matmul(q, np.swapaxes(k, 2, 3)) / np.sqrt(width // shape.heads)
    mixed = np.matmul(np.exp(log_softmax(scores)), v)
    merged = np.reshape(np.transpose(mixed, (0, 2, 1, 3)), x.shape)
    return linear(params, f"{name}.out", merged)


def forward(shape, params, images):
    """images [B, c, H, W] -> logits [B, classes]."""
    p = shape.patch_size

    def norm(name, x):
        weight, bias = params[f"{name}.weight"], params[f"{name}.bias"]
        return layer_norm(x, weight, bias, shape.norm_eps)

    kernel = np.reshape(params["patch_embedding.weight"], (shape.width, shape.channels, p, p))
    x = convolution(images, kernel, p) + params["patch_embedding.bias"]
    if shape.pooling == "cls":
        token = np.ones((len(images), 1, 1)) * params["class_token"]
        x = np.concatenate([token, x], axis=1)
    x = x + params["position_embedding.weight"]
    for i in range(shape.layers):
        block = f"blocks.{i}"
        x = x + attention(shape, params, f"{block}.attn", norm(f"{block}.norm1", x))
        hidden = gelu(linear(params, f"{block}.mlp.up", norm(f"{block}.norm2", x)))
        x = x + linear(params, f"{block}.mlp.down", hidden)
    x = norm("final_norm", x)
    pooled = x[:, 0] if shape.pooling == "cls" else np.mean(x, axis=1)
    return linear(params, "head", pooled)


def cross_entropy(logits, targets, smoothing):
    """Mean over samples against smoothed distributions [B, classes], in nats."""
    smoothed = (1.0 - smoothing) * targets + smoothing / targets.shape[1]
    return -np.sum(smoothed * log_softmax(logits)) / len(targets)


def loss_and_gradients(shape, params, images, targets, smoothing):
    def loss(p):
        return cross_entropy(forward(shape, p, images), targets, smoothing)

    return value_and_grad(loss)(params)
