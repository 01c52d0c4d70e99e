# Copyright (c) MMMixPro contributors.
"""What tests read off the pages of the documentation."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r'^( *)(`{3,}).*?^\1\2', re.DOTALL | re.MULTILINE)


def blocks(page, language='python'):
    """The code blocks of a page of ``docs/``."""
    return re.findall(rf'^```{language}\n(.*?)^```', (ROOT / 'docs' / page).read_text(), re.DOTALL | re.MULTILINE)


def prose(text):
    """A page without its code blocks."""
    return FENCE.sub('', text)
