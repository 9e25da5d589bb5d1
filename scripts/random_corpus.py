#!/usr/bin/env python3
"""Writes a corpus of random GPT-2 tokens for timing: nothing to learn, nothing to download.

The file is in llm.c's form (docs/data.md), so a recipe that reads it says `model.vocab`. The same
seed gives the same file. Needs only Python.
"""

import argparse
import array
import os
import pathlib
import random
import sys

MAGIC, VERSION, HEADER_INTS = 20240520, 1, 256
GPT2_VOCABULARY = 50257
CHUNK = 1 << 20


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=pathlib.Path)
    parser.add_argument("--tokens", type=int, default=20_000_000, help="default %(default)s")
    parser.add_argument("--vocab", type=int, default=GPT2_VOCABULARY, help="default %(default)s")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.tokens < 1 or not 1 <= arguments.vocab <= 1 << 16:
        parser.error("--tokens is at least 1, --vocab from 1 to 65536")
    return arguments


def little_endian(values: array.array) -> bytes:
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


def write(arguments: argparse.Namespace) -> None:
    generator = random.Random(arguments.seed)
    header = array.array("i", [MAGIC, VERSION, arguments.tokens] + [0] * (HEADER_INTS - 3))
    temporary = arguments.output.with_name(arguments.output.name + f".{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(little_endian(header))
        for begin in range(0, arguments.tokens, CHUNK):
            count = min(CHUNK, arguments.tokens - begin)
            draws = array.array("I", generator.randbytes(4 * count))
            file.write(little_endian(array.array("H", [d % arguments.vocab for d in draws])))
    temporary.replace(arguments.output)


if __name__ == "__main__":
    write(parse_arguments())
