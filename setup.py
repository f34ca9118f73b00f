"""What pyproject.toml cannot say: where the pages go, and what the distribution is never called."""

import shutil
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

TAKEN = "lion"  # on PyPI: an object mapper, whose files would lie among ours


class BuildWithPages(build_py):
    """The packages, with conf/ as experiments/conf, where an installed suite finds its pages."""

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


setup(cmdclass={"build_py": BuildWithPages})
