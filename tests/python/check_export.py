"""Rebuilds a run's logits from each of its exports and compares them with hew's own.

    hew eval RUN --dump-logits logits.safetensors
    hew export RUN --format bsr-hdf5 -o model.h5                # and so on
    check_export.py logits.safetensors --dense FOLDER --bsr-hdf5 model.h5 --bsr-safetensors model.s…

The model is the numpy one of reference_models.py in float64, its shape the dense folder's
config.json. Block-sparse matrices are multiplied as scipy.sparse.bsr_matrix. Needs numpy, scipy,
h5py and autograd. Prints one line an export; exit status 1 if one differs.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import load_bsr
from reference_models import ModelShape, forward, parameter_shapes

TOLERANCE = 1e-5  # of the largest logit: hew runs in float32, the reference in float64

GPT2_LAYERS = {
    "ln_1": "norm1",
    "ln_2": "norm2",
    "attn.c_proj": "attn.out",
    "mlp.c_fc": "mlp.up",
    "mlp.c_proj": "mlp.down",
}
LLAMA_LAYERS = {
    "input_layernorm": "norm1",
    "post_attention_layernorm": "norm2",
    "self_attn.q_proj": "attn.q",
    "self_attn.k_proj": "attn.k",
    "self_attn.v_proj": "attn.v",
    "self_attn.o_proj": "attn.out",
    "mlp.gate_proj": "mlp.gate",
    "mlp.up_proj": "mlp.up",
    "mlp.down_proj": "mlp.down",
}
GPT2_ENDS = {"wte": "token_embedding", "wpe": "position_embedding", "ln_f": "final_norm"}
LLAMA_ENDS = {"embed_tokens": "token_embedding", "norm": "final_norm"}


class SparseWeight:
    """Stands for W in `x @ W.T`, x [..., K]."""

    __array_ufunc__ = None  # numpy leaves the product to this class

    def __init__(self, matrix):
        self.matrix = matrix
        self.product = matrix.to_scipy().astype(np.float64)

    @property
    def shape(self):
        return self.matrix.shape

    @property
    def T(self):  # noqa: N802
        return self

    def __rmatmul__(self, x):
        rows = x.reshape(-1, x.shape[-1])
        y = self.matrix.trim(self.product @ self.matrix.pad(rows.T)).T
        return y.reshape(*x.shape[:-1], self.shape[0])


def widen(tensor):
    """What load_bsr gives, as the reference model takes it."""
    if isinstance(tensor, load_bsr.BlockSparse):
        return SparseWeight(tensor)
    if isinstance(tensor, load_bsr.Bfloat16):
        tensor = tensor.to_float32()
    return tensor.astype(np.float64)


def shape_of(config):
    """config.json of Hugging Face -> ModelShape."""
    if config["model_type"] == "gpt2":
        assert config.get("activation_function", "gelu_new") == "gelu_new"
        width = config["n_embd"]
        return ModelShape(
            family="gpt2",
            layers=config["n_layer"],
            heads=config["n_head"],
            kv_heads=config["n_head"],
            width=width,
            mlp_width=config.get("n_inner") or 4 * width,
            context=config["n_positions"],
            vocab=config["vocab_size"],
            tied_embeddings=config.get("tie_word_embeddings", True),
            bias=True,
            norm_eps=config.get("layer_norm_epsilon", 1e-5),
        )
    assert config["model_type"] == "llama" and config.get("hidden_act", "silu") == "silu"
    heads = config["num_attention_heads"]
    return ModelShape(
        family="llama",
        layers=config["num_hidden_layers"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads", heads),
        width=config["hidden_size"],
        mlp_width=config["intermediate_size"],
        context=config["max_position_embeddings"],
        vocab=config["vocab_size"],
        tied_embeddings=config.get("tie_word_embeddings", False),
        bias=config.get("attention_bias", False),
        norm_eps=config["rms_norm_eps"],
        rope_theta=config.get("rope_theta", 10000.0),
    )


def from_gpt2(tensors):
    """Names of GPT2LMHeadModel -> hew's. Conv1D holds a matrix as [in, out], q, k and v joined."""
    out = {}
    for name, value in tensors.items():
        if name == "lm_head.weight":
            out["head.weight"] = value
            continue
        stem, kind = name.removeprefix("transformer.").rsplit(".", 1)
        if not stem.startswith("h."):
            out[f"{GPT2_ENDS[stem]}.{kind}"] = value
            continue
        _, layer, part = stem.split(".", 2)
        if value.ndim == 2:
            value = value.T
        if part == "attn.c_attn":
            for letter, third in zip("qkv", np.split(value, 3), strict=True):
                out[f"blocks.{layer}.attn.{letter}.{kind}"] = third
        else:
            out[f"blocks.{layer}.{GPT2_LAYERS[part]}.{kind}"] = value
    return out


def from_llama(tensors):
    """Names of LlamaForCausalLM -> hew's."""
    out = {}
    for name, value in tensors.items():
        if name == "lm_head.weight":
            out["head.weight"] = value
            continue
        stem, kind = name.removeprefix("model.").rsplit(".", 1)
        if stem.startswith("layers."):
            _, layer, part = stem.split(".", 2)
            out[f"blocks.{layer}.{LLAMA_LAYERS[part]}.{kind}"] = value
        else:
            out[f"{LLAMA_ENDS[stem]}.{kind}"] = value
    return out


def load_dense(folder):
    tensors = {
        name: widen(value) for name, value in load_bsr.load(folder / "model.safetensors").items()
    }
    config = json.loads((folder / "config.json").read_text())
    return from_gpt2(tensors) if config["model_type"] == "gpt2" else from_llama(tensors)


def load_sparse(path):
    return {name: widen(value) for name, value in load_bsr.load(path).items()}


def check(shape, path, params, dump):
    """One line of text, and whether the export gives the logits of the dump."""
    expected = parameter_shapes(shape)
    if shape.tied_embeddings:
        params.pop("head.weight", None)  # some writers repeat the embedding
    found = {name: tuple(value.shape) for name, value in params.items()}
    if found != expected:
        odd = sorted(set(found.items()) ^ set(expected.items()))
        return f"{path}: names or shapes do not fit the model, such as {odd[0]}", False
    logits = forward(shape, params, dump["ids"][None])[0]
    wanted = dump["logits"].astype(np.float64)
    if logits.shape != wanted.shape:
        return f"{path}: logits {logits.shape}, the dump has {wanted.shape}", False
    scale = np.max(np.abs(wanted))
    error = np.max(np.abs(logits - wanted)) / scale
    sparse = sum(isinstance(value, SparseWeight) for value in params.values())
    text = f"{path}: {sparse} block-sparse matrices, logits differ by {error:.2e} of {scale:.3g}"
    return text, bool(error <= TOLERANCE)  # false for NaN


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dump", type=Path, help="written by hew eval RUN --dump-logits")
    parser.add_argument("--dense", type=Path, required=True, help="folder of dense-safetensors")
    parser.add_argument("--bsr-hdf5", type=Path)
    parser.add_argument("--bsr-safetensors", type=Path)
    args = parser.parse_args()
    dump = load_bsr.load(args.dump)
    shape = shape_of(json.loads((args.dense / "config.json").read_text()))
    exports = {args.dense: load_dense(args.dense)}
    for path in (args.bsr_hdf5, args.bsr_safetensors):
        if path is not None:
            exports[path] = load_sparse(path)
    results = [check(shape, path, params, dump) for path, params in exports.items()]
    for text, good in results:
        print(text if good else f"WRONG {text}")
    return 0 if all(good for _, good in results) else 1


if __name__ == "__main__":
    sys.exit(main())
