"""What the tests of analysis/ share. Import it first: it skips where modules are missing."""

import contextlib
import io
import os
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
REPORT = os.path.join(ROOT, "analysis", "report.py")
FIXTURE = os.path.join(HERE, "make_fixture.py")
SKIPPED = 77

sys.path[:0] = [os.path.join(ROOT, "analysis"), HERE]
import interpreter  # noqa: E402

if interpreter.missing_modules():
    missing = ", ".join(interpreter.missing_modules())
    print(f"skipped: {sys.executable} lacks {missing} (apt install {interpreter.PACKAGES})")
    sys.exit(SKIPPED)

import make_fixture  # noqa: E402
import report  # noqa: E402


class FolderTest(unittest.TestCase):
    """A fresh folder per test."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def path(self, name):
        return os.path.join(self.folder, name)

    def known(self, name="run.h5", change=None, **attributes):
        """The known run; change(tables) spoils it first."""
        tables = make_fixture.known_tables()
        if change:
            change(tables)
        make_fixture.write(self.path(name), tables, make_fixture.known_attributes(**attributes))
        return self.path(name)

    def killed(self, name="killed.h5"):
        subprocess.run([sys.executable, FIXTURE, "killed", self.path(name)], check=True)
        return self.path(name)

    def run_report(self, *arguments):
        """(exit status, stdout, stderr) of the report, in this process: imports are slow."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                status = report.main(list(arguments))
            except SystemExit as stop:
                status = stop.code
        return status, out.getvalue(), err.getvalue()

    def assert_one_error(self, result, *words):
        """Status 2, nothing on stdout, one line that has the words."""
        status, out, err = result
        self.assertEqual(status, 2)
        self.assertEqual(out, "")
        self.assertEqual(err.count("\n"), 1, err)
        for word in words:
            self.assertIn(word, err)
