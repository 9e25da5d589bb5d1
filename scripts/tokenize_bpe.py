#!/usr/bin/env python3
"""Tokenize text files with GPT-2's byte-level BPE into a sealed corpus (docs/data.md).

The vocabulary is GPT-2's encoder.json and vocab.bpe, or a tokenizer.json of Hugging Face that splits
words as GPT-2 does. Needs h5py, numpy, and tokenizers or tiktoken. A document ends at a line
<|endoftext|> and at the end of a file.
"""
import argparse
import hashlib
import json
import os
import sys

END_OF_TEXT = "<|endoftext|>"
GPT2_WORDS = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
SEAL_BYTES = 512
CHUNK = 65536


class DataError(Exception):
    """A file that is not what its name promises."""


def stand_ins():
    """GPT-2's printable character of each byte, as {character: byte}."""
    printing = [b for b in range(256) if 33 <= b <= 126 or (b >= 161 and b != 173)]
    hidden = [b for b in range(256) if b not in printing]
    table = {chr(b): b for b in printing}
    table.update({chr(256 + i): b for i, b in enumerate(hidden)})
    return table


def read_gpt2(encoder_path, merges_path):
    """({key: id}, [(left key, right key)])"""
    with open(encoder_path, encoding="utf-8") as file:
        ids = json.load(file)
    with open(merges_path, encoding="utf-8") as file:
        lines = file.read().split("\n")
    return ids, [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]


def read_tokenizer_json(path):
    """The same from a tokenizer.json; refuses what GPT-2's rules do not describe."""
    with open(path, encoding="utf-8") as file:
        spec = json.load(file)
    model, split = spec["model"], spec.get("pre_tokenizer") or {}
    same = model.get("type", "BPE") == "BPE" and not model.get("ignore_merges")
    same = same and split.get("type") == "ByteLevel" and split.get("use_regex", True)
    same = same and not split.get("add_prefix_space") and not spec.get("normalizer")
    if not same:
        raise DataError(f"{path}: not a byte-level BPE with GPT-2's words")
    ids = dict(model["vocab"])
    ids.update({token["content"]: token["id"] for token in spec.get("added_tokens", [])})
    merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]
    return ids, merges


class Vocabulary:
    """Pieces by id, merges in order, and the stored form that hew reads (docs/data.md)."""

    def __init__(self, ids, merges):
        if sorted(ids.values()) != list(range(len(ids))):
            raise DataError("the vocabulary's ids are not 0, 1, 2, …")
        byte_of = stand_ins()
        self.ids, self.merges = ids, merges
        self.end = ids.get(END_OF_TEXT)
        self.pieces = [
            bytes(byte_of[c] for c in key) if all(c in byte_of for c in key) else key.encode()
            for key in sorted(ids, key=ids.get)
        ]

    def blob(self):
        end = -1 if self.end is None else self.end
        lines = [f"hew-bpe 1 {len(self.pieces)} {len(self.merges)} {end}"]
        lines += [piece.hex() for piece in self.pieces]
        lines += [f"{self.ids[left]} {self.ids[right]}" for left, right in self.merges]
        return ("\n".join(lines) + "\n").encode()

    def encoder(self, engine):
        """A function from str to a list of ids."""
        if engine == "tiktoken":
            import tiktoken

            ranks = {piece: i for i, piece in enumerate(self.pieces) if i != self.end}
            return tiktoken.Encoding(
                "gpt2", pat_str=GPT2_WORDS, mergeable_ranks=ranks, special_tokens={}
            ).encode_ordinary
        import tokenizers

        bpe = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=self.ids, merges=self.merges))
        bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        return lambda text: bpe.encode(text, add_special_tokens=False).ids


def documents(path):
    """The texts between separators; lines keep their newlines as they are."""
    lines = []
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if line.rstrip(b"\r\n") == END_OF_TEXT.encode():
                yield "".join(lines)
                lines = []
                continue
            try:
                lines.append(line.decode())
            except UnicodeDecodeError:
                raise DataError(f"{path}:{number}: not UTF-8") from None
    yield "".join(lines)


def seal(path):
    """Fills in the first bytes of a finished file, and syncs it."""
    digest = hashlib.sha256()
    with open(path, "r+b") as file:
        file.seek(SEAL_BYTES)
        while block := file.read(1 << 20):
            digest.update(block)
        header = f"hew-h5 1\nsha256 {digest.hexdigest()}\nlength {file.tell()}\n".encode()
        file.seek(0)
        file.write(header.ljust(SEAL_BYTES, b"\0"))
        file.flush()
        os.fsync(file.fileno())


def write_tokens(file, inputs, encode, vocabulary):
    """Appends the tokens of all documents; returns the attributes that count them."""
    import numpy

    dtype = "<u2" if len(vocabulary.pieces) <= 65536 else "<i4"
    tokens = file.create_dataset("tokens", (0,), dtype, chunks=(CHUNK,), maxshape=(None,))
    counts = {"largest_token": 0, "bytes": 0, "documents": 0}
    for path in inputs:
        for text in filter(None, documents(path)):
            ids = encode(text) + ([] if vocabulary.end is None else [vocabulary.end])
            tokens.resize(len(tokens) + len(ids), axis=0)
            tokens[-len(ids) :] = numpy.array(ids, dtype=dtype)
            counts["largest_token"] = max(counts["largest_token"], *ids)
            counts["bytes"] += len(text.encode())
            counts["documents"] += 1
    if not counts["documents"]:
        raise DataError("there is no text to tokenize")
    return counts


def write_corpus(path, inputs, encode, vocabulary):
    import h5py
    import numpy

    blob = vocabulary.blob()
    with h5py.File(path, "w", userblock_size=SEAL_BYTES) as file:
        attributes = write_tokens(file, inputs, encode, vocabulary)
        attributes.update(version=1, vocab_size=len(vocabulary.pieces))
        for name, value in attributes.items():
            file.attrs[name] = numpy.int64(value)
        file.create_dataset("tokenizer", data=numpy.frombuffer(blob, dtype=numpy.uint8))
        file.attrs["kind"] = "corpus"
        file.attrs["tokenizer_kind"] = "gpt2"
        file.attrs["tokenizer_sha256"] = hashlib.sha256(b"gpt2\0" + blob).hexdigest()
    seal(path)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("inputs", nargs="+", help="UTF-8 text files")
    parser.add_argument("-o", "--output", required=True, help="the corpus to write")
    parser.add_argument("--encoder", help="GPT-2's encoder.json")
    parser.add_argument("--merges", help="GPT-2's vocab.bpe")
    parser.add_argument("--tokenizer-json", help="instead of the two, a Hugging Face tokenizer.json")
    parser.add_argument("--engine", choices=["tokenizers", "tiktoken"], default="tokenizers")
    parser.add_argument("--force", action="store_true", help="overwrite the output if it exists")
    options = parser.parse_args()
    pair = (options.encoder is not None) + (options.merges is not None)
    if pair != (0 if options.tokenizer_json else 2):
        parser.error("give either --encoder and --merges, or --tokenizer-json")
    return options


def main():
    options = parse_arguments()
    temporary = f"{options.output}.tmp.{os.getpid()}"
    try:
        if os.path.exists(options.output) and not options.force:
            raise DataError(f"{options.output}: exists already; --force overwrites it")
        if options.tokenizer_json:
            vocabulary = Vocabulary(*read_tokenizer_json(options.tokenizer_json))
        else:
            vocabulary = Vocabulary(*read_gpt2(options.encoder, options.merges))
        write_corpus(temporary, options.inputs, vocabulary.encoder(options.engine), vocabulary)
        os.rename(temporary, options.output)
    except (DataError, OSError, ImportError, KeyError, ValueError) as error:
        sys.exit(f"tokenize_bpe.py: {error}")
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


if __name__ == "__main__":
    main()
