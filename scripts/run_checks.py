#!/usr/bin/env python3
"""Runs tests/python/{check,test}_*.py and counts them together with what ctest reported.

A check is a program of its own, started in the repository root without arguments. HEW_BUILD_DIR is
the build folder and HEW_TESTS its tests/, both absolute. Status 0 is a pass, 77 a skip, anything else a failure. Where a package of
tests/python/requirements.txt could not be installed, a check that needs it is skipped.

Usage: scripts/run_checks.py --build DIR [--python FILE] [--junit FILE] [--only NAME …]
The last line printed is `N passed, N failed, N skipped`; the status is 1 if anything failed.
"""

import argparse
import dataclasses
import os
import pathlib
import subprocess
import sys
import time
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parents[1]
SKIPPED = 77
LIMIT_SECONDS = 300
SHOWN_LINES = 40  # of a failed check's output


@dataclasses.dataclass
class Count:
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def add(self, outcome):
        setattr(self, outcome, getattr(self, outcome) + 1)


def ctest_outcome(case):
    if case.get("status") in {"run", "disabled"}:
        return "passed" if case.get("status") == "run" else "skipped"
    reason = case.find("skipped")  # ctest writes one for a program that is missing, too
    stated = reason is not None and reason.get("message", "").startswith("SKIP_")
    return "skipped" if stated else "failed"


def count_ctest(path, count):
    """Adds what ctest --output-junit wrote. Throws where the file is missing or has no test."""
    cases = xml.etree.ElementTree.parse(path).getroot().findall("testcase")
    if not cases:
        raise ValueError(f"{path}: no test ran")
    for case in cases:
        count.add(ctest_outcome(case))


def run_check(path, python, environment):
    """The outcome of one check, and its output."""
    try:
        done = subprocess.run(
            [python, path],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            timeout=LIMIT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        output = late.stdout or b""
        return "failed", output.decode(errors="replace") + f"\nstopped after {LIMIT_SECONDS} s"
    if done.returncode == 0:
        return "passed", done.stdout
    lacks_package = done.stdout.rstrip().rsplit("\n", 1)[-1].startswith("ModuleNotFoundError")
    if done.returncode == SKIPPED or (lacks_package and environment.get("HEW_NO_PYPI")):
        return "skipped", done.stdout
    return "failed", done.stdout


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--build", required=True, type=pathlib.Path, help="build folder")
    parser.add_argument("--python", default=sys.executable, help="interpreter of the checks")
    parser.add_argument("--junit", type=pathlib.Path, help="what ctest --output-junit wrote")
    parser.add_argument("--only", nargs="*", help="names of checks, such as check_plot_run")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    count = Count()
    if arguments.junit:
        try:
            count_ctest(arguments.junit, count)
        except (OSError, ValueError, xml.etree.ElementTree.ParseError) as error:
            print(f"FAIL ctest: {error}")
            count.add("failed")
    build = arguments.build.resolve()
    environment = os.environ | {"HEW_BUILD_DIR": str(build), "HEW_TESTS": str(build / "tests")}
    folder = ROOT / "tests" / "python"
    for path in sorted([*folder.glob("check_*.py"), *folder.glob("test_*.py")]):
        if arguments.only is not None and path.stem not in arguments.only:
            continue
        start = time.monotonic()
        outcome, output = run_check(path, arguments.python, environment)
        word = {"passed": "pass", "failed": "FAIL", "skipped": "SKIP"}[outcome]
        lines = output.strip().splitlines() or [""]
        print(f"[{word}] {path.stem} ({time.monotonic() - start:.1f} s): {lines[-1]}", flush=True)
        if outcome == "failed":
            print("\n".join(lines[-SHOWN_LINES:]), flush=True)
        count.add(outcome)
    print(f"{count.passed} passed, {count.failed} failed, {count.skipped} skipped")
    return 1 if count.failed else 0


if __name__ == "__main__":
    sys.exit(main())
