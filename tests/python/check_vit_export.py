"""Trains tiny ViTs with hew, exports them and rebuilds what `hew predict` says from each export.

The dense folder goes into a restatement of timm's VisionTransformer by timm's names, shapes and
config.json, the BSR files into the same by hew's names, with the block-sparse matrices folded by
load_bsr.py; all in numpy, float64. The dense folder is imported again too, and must predict the
same. Needs numpy, h5py and safetensors.
"""

import json
import math
import os
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np
import safetensors.numpy

ROOT = Path(__file__).resolve().parents[2]
HEW = Path(os.environ.get("HEW_BUILD_DIR", ROOT / "build")) / "hew"
sys.path.insert(0, str(ROOT / "scripts"))

import load_bsr  # noqa: E402

SIZE, PATCH, WIDTH, HEADS, MLP, LAYERS, CLASSES = 12, 4, 20, 2, 28, 2, 5
MEAN, STD = 0.3, 0.4
RECIPE = f"""
run: {{dir: unset, seed: 3}}
model: {{family: vit, layers: {LAYERS}, heads: {HEADS}, width: {WIDTH}, mlp_width: {MLP},
        patch_size: {PATCH}, init_std: 0.2}}
data:
  train: images
  image: {{size: {SIZE}, channels: 1, mean: [{MEAN}], std: [{STD}]}}
train: {{steps: 12, batch: 8}}
optim: {{lr: 1e-2}}
"""
MASKED = "match: [blocks.*.mlp.*.weight, blocks.*.attn.out.weight, head.weight]"
TRAINING = {
    "supermask": [
        f"sparsity=[{{{MASKED}, block: 8, method: supermask, schedule: {{final: 0.6}}}}]"
    ],
    "blast-mean": [
        "model.pooling=mean",
        f"sparsity=[{{{MASKED}, block: 16, method: blast, every: 4, schedule: {{final: 0.5}}}}]",
    ],
    "spartan": [f"sparsity=[{{{MASKED}, block: 8, method: spartan, schedule: {{final: 0.5}}}}]"],
    "dense": ["model.activation=gelu_tanh"],
}
TOLERANCE = 1e-5  # of log probabilities: hew runs in float32, the reference in float64


def png_bytes(pixels):
    """A grey PNG of uint8 [height, width]."""

    def chunk(kind, data):
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    height, width = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def timm_state_dict(config):
    """Shapes of timm's VisionTransformer(**model_args)."""
    args = config["model_args"]
    width, hidden = args["embed_dim"], int(args["embed_dim"] * args["mlp_ratio"])
    patches = (args["img_size"] // args["patch_size"]) ** 2
    shapes = {
        "pos_embed": (1, patches + args["class_token"], width),
        "patch_embed.proj.weight": (width, args["in_chans"], *[args["patch_size"]] * 2),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
        "head.weight": (config["num_classes"], width),
        "head.bias": (config["num_classes"],),
    }
    if args["class_token"]:
        shapes["cls_token"] = (1, 1, width)
    for i in range(args["depth"]):
        linears = {
            "attn.qkv": (3 * width, width),
            "attn.proj": (width, width),
            "mlp.fc1": (hidden, width),
            "mlp.fc2": (width, hidden),
        }
        for name, dims in linears.items():
            shapes[f"blocks.{i}.{name}.weight"] = dims
            shapes[f"blocks.{i}.{name}.bias"] = dims[:1]
        for name in ("norm1", "norm2"):
            shapes |= {f"blocks.{i}.{name}.{kind}": (width,) for kind in ("weight", "bias")}
    return shapes


def gelu(x):
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def layer_norm(p, name, x):
    centred = x - x.mean(-1, keepdims=True)
    scale = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    return centred / scale * p[f"{name}.weight"] + p[f"{name}.bias"]


def linear(p, name, x):
    return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def timm_forward(config, p, images):
    """images [B, c, H, W] -> logits [B, classes]."""
    args = config["model_args"]
    size, heads = args["patch_size"], args["num_heads"]
    act = {"gelu": gelu, "gelu_tanh": gelu_tanh}[args["act_layer"]]
    batch, channels, height, width = images.shape
    windows = images.reshape(batch, channels, height // size, size, width // size, size)
    x = np.einsum("bcyuxv,ocuv->byxo", windows, p["patch_embed.proj.weight"])
    x = x.reshape(batch, -1, args["embed_dim"]) + p["patch_embed.proj.bias"]
    if args["class_token"]:
        x = np.concatenate([np.repeat(p["cls_token"], batch, 0), x], axis=1)
    x = x + p["pos_embed"]
    for i in range(args["depth"]):
        block = f"blocks.{i}"
        qkv = linear(p, f"{block}.attn.qkv", layer_norm(p, f"{block}.norm1", x))
        q, k, v = qkv.reshape(batch, x.shape[1], 3, heads, -1).transpose(2, 0, 3, 1, 4)
        weights = np.exp(log_softmax(q @ k.swapaxes(2, 3) / math.sqrt(q.shape[-1])))
        x = x + linear(p, f"{block}.attn.proj", (weights @ v).swapaxes(1, 2).reshape(x.shape))
        hidden = act(linear(p, f"{block}.mlp.fc1", layer_norm(p, f"{block}.norm2", x)))
        x = x + linear(p, f"{block}.mlp.fc2", hidden)
    x = layer_norm(p, "norm", x)
    avg = args.get("global_pool", "token") == "avg"
    assert not (avg and args.get("fc_norm", True)), "the norm would come behind the mean"
    return linear(p, "head", x.mean(1) if avg else x[:, 0])


def to_timm(params, config):
    """hew's names -> timm's; block-sparse matrices are folded."""
    renamed = {"final_norm": "norm", "patch_embedding": "patch_embed.proj", "attn.out": "attn.proj",
               "mlp.up": "mlp.fc1", "mlp.down": "mlp.fc2", "class_token": "cls_token",
               "position_embedding.weight": "pos_embed"}
    out = {}
    for name, value in params.items():
        array = value.to_dense() if isinstance(value, load_bsr.BlockSparse) else value
        if ".attn.q." in name:
            parts = [params[name.replace(".q.", f".{part}.")] for part in "qkv"]
            dense = [v.to_dense() if isinstance(v, load_bsr.BlockSparse) else v for v in parts]
            out[name.replace(".q.", ".qkv.")] = np.concatenate(dense)
            continue
        if ".attn.k." in name or ".attn.v." in name:
            continue
        for ours, theirs in renamed.items():
            name = name.replace(ours, theirs)
        out[name] = array
    shapes = timm_state_dict(config)
    return {name: value.reshape(shapes[name]).astype(np.float64) for name, value in out.items()}


class Checker:
    def __init__(self, folder):
        self.folder = folder
        self.worst = 0.0

    def call(self, *arguments):
        command = [str(HEW), *map(str, arguments)]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def make_images(self):
        random = np.random.default_rng(0)
        for label in range(CLASSES):
            (self.folder / "images" / f"kind{label}").mkdir(parents=True)
            for i in range(8):
                pixels = random.integers(0, 256, (SIZE, SIZE)) // 2 + 25 * label
                path = self.folder / "images" / f"kind{label}" / f"{i}.png"
                path.write_bytes(png_bytes(pixels.astype(np.uint8)))
                if i == 0:
                    yield path, pixels

    def compare(self, what, images, logits):
        """The logits against what hew predicts from `what`."""
        lines = self.call("predict", what, *[p for p, _ in images], "--top", CLASSES, "--json")
        expected = log_softmax(logits)
        for line, row in zip(lines.splitlines(), expected, strict=True):
            classes = json.loads(line)["classes"]
            assert [c["probability"] for c in classes] == sorted(
                (c["probability"] for c in classes), reverse=True
            )
            assert all(c["name"] == f"kind{c['class']}" for c in classes), classes
            found = np.empty(CLASSES)
            found[[c["class"] for c in classes]] = [math.log(c["probability"]) for c in classes]
            error = np.max(np.abs(found - row))
            self.worst = max(self.worst, error)
            assert error <= TOLERANCE, f"{what}: probabilities differ by {error:.2e}"

    def check_run(self, name, overrides, images):
        (self.folder / "recipe.yaml").write_text(RECIPE)
        self.call("train", "recipe.yaml", f"run.dir={name}", *overrides)
        out = self.folder / f"{name}-exports"
        out.mkdir()
        dense = out / "dense"
        self.call("export", name, "--format", "dense-safetensors", "-o", dense)
        config = json.loads((dense / "config.json").read_text())
        tensors = safetensors.numpy.load_file(dense / "model.safetensors")
        assert {k: v.shape for k, v in tensors.items()} == timm_state_dict(config), name
        kept = config["pretrained_cfg"]
        assert kept["mean"] == [MEAN] and kept["std"] == [STD], kept
        pixels = np.stack([p for _, p in images])[:, None] / 255.0
        prepared = (pixels - MEAN) / STD
        wide = {name: value.astype(np.float64) for name, value in tensors.items()}
        logits = timm_forward(config, wide, prepared)
        self.compare(name, images, logits)
        for kind, file in (("bsr-hdf5", "model.h5"), ("safetensors", "model.safetensors")):
            self.call("export", name, "--format", kind, "-o", out / file)
            params = to_timm(load_bsr.load(out / file), config)
            assert np.max(np.abs(timm_forward(config, params, prepared) - logits)) < 1e-9, file
            self.compare(out / file, images, logits)
        self.call("import", dense, "-o", out / "again.h5")
        self.compare(out / "again.h5", images, logits)


def main():
    with tempfile.TemporaryDirectory() as folder:
        checker = Checker(Path(folder).resolve())
        images = list(checker.make_images())
        for name, overrides in TRAINING.items():
            checker.check_run(name, overrides, images)
    print(f"{len(TRAINING)} ViTs, 5 forms each: log probabilities differ by {checker.worst:.1e}")


if __name__ == "__main__":
    main()
