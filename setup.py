# Copyright (c) MMMixPro contributors.
"""Metadata stands in pyproject.toml; this only ships the configs and tools with the wheel.

mmengine looks for ``mmmixpro::mixpro/x.py`` in ``mmmixpro/.mim/configs``. A checkout has ``.mim``
as links, so an editable install and ``PYTHONPATH`` see the same configs as a wheel does.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


class BuildWithConfigs(build_py):
    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        mim = Path(self.build_lib, 'mmmixpro', '.mim')
        shutil.rmtree(mim, ignore_errors=True)
        for folder in ('configs', 'tools'):
            shutil.copytree(ROOT / folder, mim / folder, ignore=shutil.ignore_patterns('__pycache__', '*.pyc'))
        shutil.copy2(ROOT / 'model-index.yml', mim)


setup(cmdclass={'build_py': BuildWithConfigs})
