"""The folder of a grid: scripts/accuracy_table.py and scripts/speed_table.py check here, before
anything starts, that it can be written and holds nothing that was made with other settings."""

import hashlib
import json
import os
import shutil
import sys


def require_program(option, program):
    if shutil.which(str(program)) is None:
        sys.exit(f"{option} {program}: no such program")


def settings(arguments, **more):
    """What every cell of a grid has in common. A recipe is known by its text, not by its path."""
    try:
        text = arguments.recipe.read_bytes()
    except OSError as error:
        sys.exit(f"{arguments.recipe}: {error.strerror}")
    recipe = {"recipe_path": str(arguments.recipe), "recipe": hashlib.sha256(text).hexdigest()}
    return recipe | {"overrides": arguments.overrides, "match": arguments.match} | more


def known_settings(path):
    """Of grid.json; None without it."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        known = None
    if not isinstance(known, dict) or "recipe" not in known:
        sys.exit(f"{path}: damaged")
    return known


def require_same(folder, known, wanted, what):
    if known is None:
        sys.exit(f"{folder} holds {what} of unknown settings (no grid.json); take another folder")
    for name, value in wanted.items():
        if name != "recipe_path" and known.get(name, value) != value:
            other = json.dumps(known[name]) if known[name] else "not given"
            of = name if name == "recipe" else f"{name} ({other})"
            sys.exit(f"{folder} holds {what} of another {of}; take another folder")


def open_folder(folder, wanted, *, cells, what, keep):
    """Makes the folder. Leaves, with one line, where cells of other settings are in it; `cells` is
    the pattern of those that count. With `keep`, notes the settings in grid.json."""
    note = folder / "grid.json"
    try:
        (folder / "cells").mkdir(parents=True, exist_ok=True)
        for place in (folder, folder / "cells"):
            if not os.access(place, os.W_OK | os.X_OK):
                sys.exit(f"{place}: cannot be written")
        known = {}
        if any((folder / "cells").glob(cells)):
            known = known_settings(note)
            require_same(folder, known, wanted, what)
        if keep:
            note.write_text(json.dumps(known | wanted, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        sys.exit(f"{error.filename}: {error.strerror}")
