"""scripts/check_layers.py accepts this repository and names a planted violation of each kind."""

import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "check_layers.py"

# file → content, and what the script must say of it (None: nothing).
ALLOWED = {
    "kernels/a.cc": '#include "kernels/a.h"\n\n#include <vector>\n\n#include "core/b.h"\n',
    "dist/reducer.cc": '#include "autograd/parameter.h"\n',
    "dist/comm.h": '#include "core/tensor.h"\n',
    "core/prose.h": '// #include "train/recipe.h" would be wrong here\n',
    "tests/core/a_test.cc": '#include "tests/support/compare.h"\n#include "app/x.h"\n',
}
PLANTED = {
    "kernels/b.cc": ('\n#include "autograd/variable.h"\n', "kernels/b.cc:2: ", "autograd/"),
    "core/c.cuh": ('#  include "io/hdf5.h"\n', "core/c.cuh:1: ", "io/"),
    "data/d.h": ('#include "kernels/dispatch.h"\n', "data/d.h:1: ", "kernels/"),
    "dist/mpi_comm.cc": ('#include "autograd/variable.h"\n', "dist/mpi_comm.cc:1: ", "autograd/"),
    "optim/e.cu": ('#include "layers/linear.h"\n', "optim/e.cu:1: ", "layers/"),
    "layers/deep/f.h": ('#include "train/recipe.h"\n', "layers/deep/f.h:1: ", "train/"),
    "app/g.cc": ('#include "tests/support/compare.h"\n', "app/g.cc:1: ", "tests/"),
    "train/h.cc": ('#include "recipe.h"\n', "train/h.cc:1: ", "repository root"),
    "io/i.cc": ('#include "../core/error.h"\n', "io/i.cc:1: ", "repository root"),
    "io/j.cc": ('#include "extras/error.h"\n', "io/j.cc:1: ", "extras/"),
}


def run_on(files):
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            path = pathlib.Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, SCRIPT, folder], capture_output=True, text=True, check=False
        )
    return done.returncode, done.stdout.splitlines()


def main():
    problems = []
    if subprocess.run([sys.executable, SCRIPT, ROOT], check=False).returncode != 0:
        problems.append("this repository breaks the include order")
    status, lines = run_on(ALLOWED)
    if status != 0 or len(lines) != 1:
        problems.append(f"allowed includes are refused: {lines}")
    for name, (content, place, reason) in PLANTED.items():
        status, lines = run_on(ALLOWED | {name: content})
        if status == 0 or len(lines) != 1 or not lines[0].startswith(place):
            problems.append(f"{name}: status {status}, said {lines}")
        elif reason not in lines[0].removeprefix(place):
            problems.append(f"{name}: does not name {reason}: {lines[0]}")
    print("\n".join(problems) or f"{len(PLANTED)} planted violations found")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
