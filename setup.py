"""What pyproject.toml cannot say: where pages and their files go, and what is never its name."""

import shutil
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

NAMED = ("results/extractors", "results/studies/program_search/programs")
"""What pages name: weights that judge samples or begin a run, and a program that was found."""
TAKEN = "lion"  # on PyPI: an object mapper, whose files would lie among ours


class BuildWithPages(build_py):
    """The packages, with conf/ and what its pages name below experiments/, where they are found."""

    def finalize_options(self) -> None:
        super().finalize_options()
        if self.distribution.get_name().lower() == TAKEN:
            sys.exit(
                f"the distribution must not be called {TAKEN!r}, which is another project on PyPI: "
                'keep name = "lion-experiments" in pyproject.toml'
            )

    def run(self) -> None:
        super().run()
        if not self.editable_mode:  # an editable installation finds conf/ itself
            pages = Path(self.build_lib, "experiments", "conf")
            shutil.copytree("conf", pages, dirs_exist_ok=True)
            for folder in NAMED:
                shutil.copytree(folder, pages.parent / folder, dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithPages})
