#!/usr/bin/env python3
"""Fails if a folder includes one it may not depend on (the order is in ARCHITECTURE.md).

Usage: scripts/check_layers.py [ROOT]
"""

import pathlib
import re
import sys

# What each folder may include besides itself.
ALLOWED = {
    "core": set(),
    "kernels": {"core"},
    "autograd": {"core", "kernels"},
    "sparsity": {"core", "kernels", "autograd"},
    "layers": {"core", "kernels", "autograd", "sparsity"},
    "optim": {"core", "kernels", "autograd", "sparsity"},
    "io": {"core"},
    "data": {"core", "io"},
    "dist": {"core", "kernels", "autograd"},
    "train": {"core", "kernels", "autograd", "sparsity", "layers", "optim", "io", "data", "dist"},
    "app": {"core", "kernels", "autograd", "sparsity", "layers", "optim", "io", "data", "dist",
            "train"},
}
# dist/comm.h, dist/mpi_comm.cc …: a communicator knows no gradients.
COMMUNICATOR_ALLOWED = {"core"}
SUFFIXES = {".h", ".cuh", ".cc", ".cu"}
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"')


def allowed_for(folder, path):
    if folder == "dist" and path.stem.split("_")[-1] == "comm":
        return COMMUNICATOR_ALLOWED
    return ALLOWED[folder]


def violations_in(path, root, folder):
    """Lines `path:line: reason` for one file."""
    allowed = allowed_for(folder, path)
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        place = f"{path.relative_to(root)}:{number}"
        included = match.group(1)
        target = included.split("/")[0]
        if "/" not in included or target in {".", ".."}:
            found.append(f'{place}: "{included}" is not a path from the repository root')
        elif target == "tests":
            found.append(f"{place}: nothing outside tests/ may include tests/")
        elif target not in ALLOWED:
            found.append(f"{place}: {target}/ is not a folder of the include order")
        elif target != folder and target not in allowed:
            found.append(f"{place}: {path.relative_to(root)} may not include {target}/")
    return found


def violations(root):
    root = pathlib.Path(root).resolve()
    found = []
    for folder in ALLOWED:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in SUFFIXES:
                found += violations_in(path, root, folder)
    return found


def main(root="."):
    found = violations(root)
    print("\n".join(found) if found else "check_layers: the include order holds")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
