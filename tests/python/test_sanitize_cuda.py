#!/usr/bin/env python3
"""scripts/sanitize_cuda.sh: what it refuses is one line, status 2, and leaves nothing behind."""

import os
import pathlib
import subprocess
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "scripts/sanitize_cuda.sh"


class Refusals(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory()
        self.addCleanup(self.scratch.cleanup)
        self.folder = pathlib.Path(self.scratch.name)
        (self.folder / "build").mkdir()
        (self.folder / "build/CTestTestfile.cmake").touch()
        tool = self.folder / "compute-sanitizer"
        tool.write_text("#!/bin/sh\nexit 1\n")
        tool.chmod(0o755)

    def refused(self, text, *words):
        path = f"{self.folder}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", SCRIPT, *words, self.folder / "build"],
            capture_output=True,
            text=True,
            env={**os.environ, "PATH": path},
        )
        self.assertEqual(done.returncode, 2)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        self.assertIn(text, done.stderr)
        self.assertEqual(done.stdout, "")
        self.assertFalse((self.folder / "build/sanitizer").exists())

    def test_options(self):
        self.refused("--filter: ctest cannot read the expression (", "--filter", "(")
        self.refused("--tools needs a list", "--tools", "")
        self.refused("--tools: got leakcheck, expected", "--tools", "memcheck leakcheck")
        self.refused("--limit: got soon, expected seconds", "--limit", "soon")
        self.refused("unknown option --fast", "--fast")

    def test_an_option_without_its_value(self):
        for option in ("tools", "filter", "limit", "logs"):
            done = subprocess.run(["bash", SCRIPT, f"--{option}"], capture_output=True, text=True)
            self.assertEqual(done.returncode, 2)
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
            self.assertIn(f"--{option} needs", done.stderr)

    def test_a_folder_without_tests(self):
        (self.folder / "build/CTestTestfile.cmake").unlink()
        self.refused("no tests are built here")


if __name__ == "__main__":
    unittest.main()
