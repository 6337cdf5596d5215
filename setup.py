"""What pyproject.toml cannot say: templates/, at the root of the repository, becomes et_core/templates in a wheel."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

TEMPLATES = Path("templates")


class BuildWithTemplates(build_py):
    """An editable installation finds the templates where they are."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, "et_core", TEMPLATES)
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(TEMPLATES, target, ignore=shutil.ignore_patterns("__pycache__"))

    def get_source_files(self) -> list[str]:
        """What a source distribution holds, from which a wheel may be built."""
        files = [
            str(path) for path in sorted(TEMPLATES.rglob("*")) if path.is_file() and "__pycache__" not in path.parts
        ]
        return [*super().get_source_files(), *files]


setup(cmdclass={"build_py": BuildWithTemplates})
