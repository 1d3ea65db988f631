"""What pyproject.toml cannot say: the wheel brings the workflow, and the commit that it was built from."""

import shutil
import subprocess
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

ROOT = Path(__file__).parent
WORKFLOW = ("Snakefile", "README.md", "workflow", "profiles", "config", "envs/mmseqs2.yaml", "resources")


class BuildWithWorkflow(build_py):
    """Copies the workflow into the package, as unirefine/checkout. An editable install uses the checkout itself."""

    def run(self):
        """Build the package, then add to it."""
        super().run()
        if self.editable_mode:
            return
        package = Path(self.build_lib) / "unirefine"
        shutil.rmtree(package / "checkout", ignore_errors=True)
        for name in WORKFLOW:
            target = package / "checkout" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, target)
        if commit := described():
            (package / "commit.txt").write_text(commit + "\n")


class SourceWithCommit(sdist):
    """Writes the commit into the source distribution, which has no git history."""

    def make_release_tree(self, base_dir, files):
        """Copy the files, then add to them."""
        super().make_release_tree(base_dir, files)
        if commit := described():
            (Path(base_dir) / "src/unirefine/commit.txt").write_text(commit + "\n")


def described():
    """The commit of this checkout, with `-dirty` where tracked files differ; None without git or outside of one."""
    if not (ROOT / ".git").exists():
        return None
    words = ["git", "-c", "safe.directory=*", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


setup(cmdclass={"build_py": BuildWithWorkflow, "sdist": SourceWithCommit})
