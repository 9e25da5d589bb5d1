"""GPT-2 and Llama in plain numpy, float64, as an independent check of hew's models.

Written from the papers and the semantics that Hugging Face's GPT2LMHeadModel and
LlamaForCausalLM publish, not from hew's sources. Gradients come from the package `autograd`.

Sources: Radford et al. 2019 (GPT-2: pre-norm blocks, learned positions); Hendrycks and Gimpel 2016
(tanh form of GELU); Touvron et al. 2023 (Llama); Su et al. 2021 (rotary positions, here in the
rotate-half layout of Hugging Face); Ainslie et al. 2023 (grouped heads); Shazeer 2020 (SwiGLU).

Parameters are a flat dict by hew's names; a matrix is [out, in]; B batch, T time, C channels,
H heads, D head width, V vocabulary.
"""

from dataclasses import dataclass

import autograd.numpy as np
from autograd import value_and_grad
from autograd.scipy.special import erf


@dataclass(frozen=True)
class ModelShape:
    family: str  # "gpt2" or "llama"
    layers: int
    heads: int
    kv_heads: int
    width: int
    mlp_width: int
    context: int
    vocab: int
    tied_embeddings: bool
    bias: bool
    norm_eps: float
    activation: str = "gelu_tanh"  # of GPT-2's MLP
    rope_theta: float = 10000.0

    @property
    def head_width(self):
        return self.width // self.heads


def parameter_shapes(shape):
    """Name -> dimensions of every parameter of the model."""
    llama = shape.family == "llama"
    kv_width = shape.kv_heads * shape.head_width
    linears = {
        "attn.q": (shape.width, shape.width),
        "attn.k": (kv_width, shape.width),
        "attn.v": (kv_width, shape.width),
        "attn.out": (shape.width, shape.width),
        "mlp.up": (shape.mlp_width, shape.width),
        "mlp.down": (shape.width, shape.mlp_width),
    }
    if llama:
        linears["mlp.gate"] = (shape.mlp_width, shape.width)
    norms = ["final_norm"]
    out = {"token_embedding.weight": (shape.vocab, shape.width)}
    if not llama:
        out["position_embedding.weight"] = (shape.context, shape.width)
    for i in range(shape.layers):
        norms += [f"blocks.{i}.norm1", f"blocks.{i}.norm2"]
        for name, dims in linears.items():
            out[f"blocks.{i}.{name}.weight"] = dims
            if shape.bias:
                out[f"blocks.{i}.{name}.bias"] = dims[:1]
    for name in norms:
        out[f"{name}.weight"] = (shape.width,)
        if not llama:
            out[f"{name}.bias"] = (shape.width,)
    if not shape.tied_embeddings:
        out["head.weight"] = (shape.vocab, shape.width)
    return out


def layer_norm(x, weight, bias, eps):
    mean = np.mean(x, axis=-1, keepdims=True)
    variance = np.mean((x - mean) ** 2, axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + eps) * weight + bias


def rms_norm(x, weight, eps):
    return x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + eps) * weight


def gelu_tanh(x):
    return 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))


def gelu(x):
    return 0.5 * x * (1.0 + erf(x / np.sqrt(2.0)))


def relu(x):
    return np.maximum(x, 0.0)


def silu(x):
    return x / (1.0 + np.exp(-x))


ACTIVATIONS = {"gelu": gelu, "gelu_tanh": gelu_tanh, "silu": silu, "relu": relu}


def log_softmax(x):
    shifted = x - np.max(x, axis=-1, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))


def rotary(x, theta):
    """x [B, H, T, D]: the pair (i, i + D/2) of token t turns by t * theta^(-2i/D)."""
    tokens, width = x.shape[2], x.shape[3]
    frequency = theta ** (-np.arange(0, width, 2) / width)
    angle = np.outer(np.arange(tokens), frequency)
    angle = np.concatenate([angle, angle], axis=-1)  # [T, D]
    half = width // 2
    rotated = np.concatenate([-x[..., half:], x[..., :half]], axis=-1)
    return x * np.cos(angle) + rotated * np.sin(angle)


def linear(params, name, x):
    y = x @ params[f"{name}.weight"].T
    bias = params.get(f"{name}.bias")
    return y if bias is None else y + bias


def norm(shape, params, name, x):
    if shape.family == "llama":
        return rms_norm(x, params[f"{name}.weight"], shape.norm_eps)
    return layer_norm(x, params[f"{name}.weight"], params[f"{name}.bias"], shape.norm_eps)


def attention(shape, params, name, x):
    """Causal self-attention, x [B, T, C]; query head h reads key-value head h // (H / Hkv)."""
    batch, tokens, _ = x.shape

    def split(part, heads):
        y = linear(params, f"{name}.{part}", x)
        return np.transpose(np.reshape(y, (batch, tokens, heads, shape.head_width)), (0, 2, 1, 3))

    q, k, v = split("q", shape.heads), split("k", shape.kv_heads), split("v", shape.kv_heads)
    if shape.family == "llama":
        q, k = rotary(q, shape.rope_theta), rotary(k, shape.rope_theta)
    group = shape.heads // shape.kv_heads
    k, v = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
    scores = np.matmul(q, np.swapaxes(k, 2, 3)) / np.sqrt(shape.head_width)
    future = np.triu(np.ones((tokens, tokens), dtype=bool), 1)
    scores = np.where(future, -np.inf, scores)
    mixed = np.matmul(np.exp(log_softmax(scores)), v)  # [B, H, T, D]
    merged = np.reshape(np.transpose(mixed, (0, 2, 1, 3)), (batch, tokens, shape.width))
    return linear(params, f"{name}.out", merged)


def mlp(shape, params, name, x):
    up = linear(params, f"{name}.up", x)
    if shape.family == "llama":
        return linear(params, f"{name}.down", silu(linear(params, f"{name}.gate", x)) * up)
    return linear(params, f"{name}.down", ACTIVATIONS[shape.activation](up))


def forward(shape, params, ids):
    """ids [B, T] -> logits [B, T, V]."""
    x = params["token_embedding.weight"][ids]
    if shape.family == "gpt2":
        x = x + params["position_embedding.weight"][: ids.shape[1]]
    for i in range(shape.layers):
        block = f"blocks.{i}"
        x = x + attention(shape, params, f"{block}.attn", norm(shape, params, f"{block}.norm1", x))
        x = x + mlp(shape, params, f"{block}.mlp", norm(shape, params, f"{block}.norm2", x))
    x = norm(shape, params, "final_norm", x)
    head = "token_embedding" if shape.tied_embeddings else "head"
    return x @ params[f"{head}.weight"].T


def cross_entropy(logits, targets):
    """Mean over all tokens of -log softmax(logits)[target], in nats."""
    picked = np.eye(logits.shape[-1])[targets]
    return -np.sum(log_softmax(logits) * picked) / targets.size


def loss_and_gradients(shape, params, ids, targets):
    def loss(p):
        return cross_entropy(forward(shape, p, ids), targets)

    return value_and_grad(loss)(params)
