# Copyright (c) MMMixPro contributors.
"""What users call stands above all else in the package."""

import re
from pathlib import Path

import mmmixpro

PACKAGE = Path(mmmixpro.__file__).parent


def test_nothing_below_imports_apis():
    below = [path for path in PACKAGE.rglob('*.py') if path.parent.name != 'apis']
    assert len(below) > 100
    imports = re.compile(r'^\s*(from|import) (mmmixpro|\.)\.apis\b', re.MULTILINE)
    assert [str(path) for path in below if imports.search(path.read_text())] == []
