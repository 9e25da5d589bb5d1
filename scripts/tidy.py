#!/usr/bin/env python3
"""Runs clang-tidy over sources, several of a folder as one translation unit.

    scripts/tidy.py BUILD FILE.cc …

Most of clang-tidy's time goes into headers, which a group reads once. Files that define the same names
in anonymous namespaces are kept apart. A group that does not pass is checked file by file, and that
is what is printed and counts. Flags come from BUILD/compile_commands.json.
"""

import collections
import concurrent.futures
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
FOLDERS = "core|kernels|autograd|layers|sparsity|optim|data|io|dist|train|app"
GROUP = 6  # files; the last groups should not be alone on their core for long

# Names at the outermost level of a file: types, constants, aliases, functions.
NAMES = re.compile(
    r"^(?:template *<.*>\n?)?(?:"
    r"(?:struct|class|enum(?: class)?|union|concept)\s+(?P<type>\w+)|"
    r"using\s+(?:\w+::)*(?P<alias>\w+)\s*[=;]|"
    r"(?=\w)[\w:<>,*& ]*?\b(?P<value>\w+) *(?:\(|\{|;|=[^=]))",
    re.MULTILINE,
)


def private_names(path: str) -> set[str]:
    text = pathlib.Path(path).read_text(encoding="utf-8")
    bodies = re.findall(r"^namespace \{\n(.*?)^\}  // namespace$", text, re.MULTILINE | re.DOTALL)
    names = {name for body in bodies for match in NAMES.finditer(body) for name in match.groups() if name}
    return names | set(re.findall(r"^using (?:\w+::)*(\w+);", text, re.MULTILINE))


def groups_of(files: list[str], flags: dict[str, list[str]]) -> list[list[str]]:
    """First fit: into the first group of the same flags that shares no name and is not full."""
    groups: dict[tuple, list[tuple[list[str], set[str]]]] = collections.defaultdict(list)
    for path in files:
        names = private_names(path)
        alike = groups[tuple(flags[path])]
        for members, taken in alike:
            if len(members) < GROUP and not names & taken:
                members.append(path)
                taken |= names
                break
        else:
            alike.append(([path], names))
    found = [members for alike in groups.values() for members, _ in alike]
    return sorted(found, key=len, reverse=True)


def compile_flags(build: pathlib.Path) -> dict[str, list[str]]:
    flags = {}
    for entry in json.loads((build / "compile_commands.json").read_text(encoding="utf-8")):
        words = shlex.split(entry["command"])
        begin = next(i for i, word in enumerate(words) if word.startswith("-"))
        end = words.index("-o")
        flags[str(pathlib.Path(entry["file"]).relative_to(ROOT))] = words[begin:end]
    return flags


class Tidy:
    """clang-tidy over GCC's flags: told where GCC's omp.h is, to pass over warnings it does not know,
    and of a <source_location> that it understands."""

    def __init__(self, build: pathlib.Path) -> None:
        gcc = subprocess.run(
            ["g++", "-print-file-name=include"], capture_output=True, text=True, check=True
        ).stdout.strip()
        self.before = ["-isystem", str(ROOT / "cmake" / "clang_tidy")]
        # Of shadows GCC tells; in a group, names of one file would shadow those of another.
        self.after = ["-idirafter", gcc, "-Wno-unknown-warning-option", "-Wno-shadow"]
        self.units = build / "tidy"
        self.units.mkdir(exist_ok=True)
        (self.units / ".clang-tidy").write_bytes((ROOT / ".clang-tidy").read_bytes())
        self.flags = compile_flags(build)

    def passes(self, source: str, flags: list[str], show: bool) -> bool:
        options = [
            "--quiet",
            "--checks=-bugprone-suspicious-include",  # which is what a group does
            f"--header-filter=/({FOLDERS})/[a-z0-9_]*\\.(h|cc)$",
        ]
        result = subprocess.run(
            ["clang-tidy", *options, source, "--", *self.before, *flags, *self.after],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if show and result.returncode != 0:
            sys.stdout.write(result.stdout or result.stderr)
        return result.returncode == 0

    def check(self, number: int, group: list[str]) -> bool:
        flags = self.flags[group[0]]
        if len(group) > 1:
            unit = self.units / f"group{number}.cc"
            unit.write_text("".join(f'#include "{ROOT / path}"\n' for path in group), encoding="utf-8")
            if self.passes(str(unit), flags, show=False):
                return True
            print(f"one by one: {' '.join(group)}", flush=True)
        return all([self.passes(path, flags, show=True) for path in group])


def main() -> int:
    build, files = pathlib.Path(sys.argv[1]), sys.argv[2:]
    tidy = Tidy(build)
    unknown = [path for path in files if path not in tidy.flags]
    if unknown:
        print(f"tidy: {build} does not compile {', '.join(unknown)}")
        return 1
    groups = groups_of(files, tidy.flags)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        verdicts = list(pool.map(tidy.check, range(len(groups)), groups))
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
