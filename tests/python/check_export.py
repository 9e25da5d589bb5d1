"""Trains tiny models with hew, exports them and rebuilds their logits from each export.

    check_export.py                            # trains, exports, compares; or a run that is there:
    check_export.py build/hew --run runs/a --data corpus.h5

The logits to agree with are those of `hew eval --dump-logits`. The model is the numpy one of
reference_models.py in float64; block-sparse matrices are multiplied as scipy.sparse.bsr_matrix. Of
the dense folder the key set and the shapes are checked too, as GPT2LMHeadModel and
LlamaForCausalLM have them. Needs numpy, scipy, h5py, safetensors and autograd. Prints one line an
export; exit status 1 if one differs.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import safetensors.numpy

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import load_bsr
from reference_models import ModelShape, forward, parameter_shapes

BLAST = "block: 8, every: 5, method: blast, schedule: {name: cubic, initial: 0.1, final: 0.7, end: 15}"
SUPERMASK = "block: 16, method: supermask, schedule: {name: constant, final: 0.6}"
TRAINING = {
    "gpt2-blast": [f"sparsity=[{{match: blocks.*.weight, {BLAST}}}]"],
    "gpt2-supermask": [
        "model.tied_embeddings=false",
        f"sparsity=[{{match: [blocks.*.mlp.*.weight, head.weight], {SUPERMASK}}}]",
    ],
    "gpt2-without-biases": ["model.bias=false", "model.activation=gelu", "sparsity=[]"],
    "llama-blast": [
        "model.family=llama",
        "model.kv_heads=1",
        f"sparsity=[{{match: [blocks.*.weight, head.weight], {BLAST}}}]",
    ],
}
# Sizes that no block divides, and weights so large that attention tells q from k.
RECIPE = """
run: {dir: unset, seed: 3}
model: {family: gpt2, layers: 2, heads: 2, width: 28, mlp_width: 52, context: 24, init_std: 0.2}
data: {train: corpus.h5, valid: corpus.h5}
train: {steps: 20, batch: 4}
optim: {lr: 1e-2}
"""

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
GPT2_ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "silu": "silu", "relu": "relu"}
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
    def T(self):
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
            activation=GPT2_ACTIVATIONS[config["activation_function"]],
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
        activation="silu",
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


def gpt2_state_dict(config):
    """Shapes of GPT2LMHeadModel's parameters. Its causal masks are buffers that are not saved."""
    width, inner = config["n_embd"], config["n_inner"]
    shapes = {
        "wte.weight": (config["vocab_size"], width),
        "wpe.weight": (config["n_positions"], width),
        "ln_f.weight": (width,),
        "ln_f.bias": (width,),
    }
    for i in range(config["n_layer"]):
        for norm in ("ln_1", "ln_2"):
            shapes |= {f"h.{i}.{norm}.weight": (width,), f"h.{i}.{norm}.bias": (width,)}
        conv1d = {
            "attn.c_attn": (width, 3 * width),
            "attn.c_proj": (width, width),
            "mlp.c_fc": (width, inner),
            "mlp.c_proj": (inner, width),
        }
        for name, (rows, cols) in conv1d.items():
            shapes |= {f"h.{i}.{name}.weight": (rows, cols), f"h.{i}.{name}.bias": (cols,)}
    return {f"transformer.{name}": shape for name, shape in shapes.items()}


def llama_state_dict(config):
    """Shapes of LlamaForCausalLM's parameters. rotary_emb.inv_freq is a buffer that is not saved."""
    width, inner, head = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    q_width = config["num_attention_heads"] * head
    kv_width = config["num_key_value_heads"] * head
    assert not config["attention_bias"] and not config["mlp_bias"]
    shapes = {"embed_tokens.weight": (config["vocab_size"], width), "norm.weight": (width,)}
    for i in range(config["num_hidden_layers"]):
        layer = {
            "self_attn.q_proj": (q_width, width),
            "self_attn.k_proj": (kv_width, width),
            "self_attn.v_proj": (kv_width, width),
            "self_attn.o_proj": (width, q_width),
            "mlp.gate_proj": (inner, width),
            "mlp.up_proj": (inner, width),
            "mlp.down_proj": (width, inner),
            "input_layernorm": (width,),
            "post_attention_layernorm": (width,),
        }
        shapes |= {f"layers.{i}.{name}.weight": dims for name, dims in layer.items()}
    return {f"model.{name}": shape for name, shape in shapes.items()}


def check_folder(folder):
    """What is wrong with a dense folder for transformers, or None."""
    config = json.loads((folder / "config.json").read_text())
    gpt2 = config["model_type"] == "gpt2"
    if config["architectures"] != ["GPT2LMHeadModel" if gpt2 else "LlamaForCausalLM"]:
        return f"architectures is {config['architectures']}"
    expected = gpt2_state_dict(config) if gpt2 else llama_state_dict(config)
    if not config["tie_word_embeddings"]:
        width = config["n_embd" if gpt2 else "hidden_size"]
        expected["lm_head.weight"] = (config["vocab_size"], width)
    found = safetensors.numpy.load_file(folder / "model.safetensors")
    shapes = {name: value.shape for name, value in found.items()}
    if shapes != expected:
        return f"tensors differ, such as {min(shapes.items() ^ expected.items())}"
    if {value.dtype.name for value in found.values()} != {config["torch_dtype"]}:
        return f"dtypes are not {config['torch_dtype']}"
    with safetensors.safe_open(folder / "model.safetensors", "np") as file:
        if file.metadata() != {"format": "pt"}:
            return f"metadata is {file.metadata()}"
    for key in ("bos_token_id", "eos_token_id"):
        if config[key] is not None and not 0 <= config[key] < config["vocab_size"]:
            return f"{key} is {config[key]}"
    return None


def check_description(shape, path):
    """What a BSR file says of its model differently from the dense folder's config, or None."""
    config = load_bsr.description(path)["config"]
    for key in dataclasses.asdict(shape):
        if key == "bias" and shape.family == "gpt2":
            continue  # the folder has zeros where the model has none
        if getattr(shape, key) != config[key]:
            return f"{key} is {config[key]}, the dense folder has {getattr(shape, key)}"
    return None


def check_logits(shape, params, dump):
    """Text, and whether the parameters give the logits of the dump."""
    expected = parameter_shapes(shape)
    found = {name: tuple(value.shape) for name, value in params.items()}
    if found != expected:
        odd = sorted(set(found.items()) ^ set(expected.items()))
        return f"names or shapes do not fit the model, such as {odd[0]}", False
    logits = forward(shape, params, dump["ids"][None])[0]
    wanted = dump["logits"].astype(np.float64)
    if logits.shape != wanted.shape:
        return f"logits {logits.shape}, the dump has {wanted.shape}", False
    scale = np.max(np.abs(wanted))
    error = np.max(np.abs(logits - wanted)) / scale
    sparse = sum(isinstance(value, SparseWeight) for value in params.values())
    text = f"{sparse} block-sparse matrices, logits differ by {error:.2e} of {scale:.3g}"
    return text, bool(error <= TOLERANCE)  # false for NaN


def with_zero_biases(shape, params):
    """The model without biases as the one whose biases are zero."""
    zeros = {
        name: np.zeros(dims)
        for name, dims in parameter_shapes(shape).items()
        if name.endswith(".bias") and name not in params
    }
    return params | zeros


class Checker:
    def __init__(self, hew, scratch):
        self.hew = hew
        self.scratch = scratch
        self.good = True

    def call(self, *arguments):
        command = [str(self.hew), *map(str, arguments)]
        done = subprocess.run(
            command, cwd=self.scratch, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)}: {done.stderr.strip()}")

    def report(self, path, text, good):
        print(f"{path.relative_to(self.scratch)}: {text if good else 'WRONG ' + text}")
        self.good = self.good and good

    def train(self, name, overrides):
        text = "".join(f"{n} men went to mow a meadow of {n * n % 97} acres. " for n in range(300))
        (self.scratch / "text.txt").write_text(text)
        (self.scratch / "recipe.yaml").write_text(RECIPE)
        if not (self.scratch / "corpus.h5").exists():
            self.call("data", "tokenize", "text.txt", "--tokenizer", "bytes", "-o", "corpus.h5")
        self.call("train", "recipe.yaml", f"run.dir={name}", *overrides)
        return self.scratch / name

    def check_run(self, name, run, data):
        out = self.scratch / f"{name}-exports"
        out.mkdir()
        options = ["--data", *data] if data else []
        self.call("eval", run, *options, "--dump-logits", out / "logits.safetensors")
        dump = load_bsr.load(out / "logits.safetensors")
        files = {"bsr-hdf5": out / "model.h5", "safetensors": out / "model.safetensors"}
        dense = out / "dense"
        for format_name, path in {**files, "dense-safetensors": dense}.items():
            self.call("export", run, "--format", format_name, "-o", path)
        problem = check_folder(dense)
        shape = shape_of(json.loads((dense / "config.json").read_text()))
        if problem:
            self.report(dense, problem, good=False)
        else:
            self.report(dense, *check_logits(shape, load_dense(dense), dump))
        for path in files.values():
            problem = check_description(shape, path)
            params = with_zero_biases(shape, load_sparse(path))
            if problem:
                self.report(path, problem, good=False)
            else:
                self.report(path, *check_logits(shape, params, dump))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    build = Path(os.environ.get("HEW_BUILD_DIR", ROOT / "build"))
    parser.add_argument("hew", type=Path, nargs="?", default=build / "hew")
    parser.add_argument("--run", type=Path, help="check this run instead of training")
    parser.add_argument("--data", nargs="*", help="corpora to take the logits from")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        checker = Checker(args.hew.resolve(), Path(folder).resolve())
        if args.run:
            data = [str(Path(path).resolve()) for path in args.data or []]
            checker.check_run("run", args.run.resolve(), data)
        else:
            for name, overrides in TRAINING.items():
                checker.check_run(name, checker.train(name, overrides), [])
    return 0 if checker.good else 1


if __name__ == "__main__":
    sys.exit(main())
