# Copyright (c) MMMixPro contributors.
"""Where MMMixPro keeps what is made once per machine."""

import os
from pathlib import Path


def cache_root() -> Path:
    """``$MMMIXPRO_CACHE``, else ``~/.cache/mmmixpro``; it need not exist yet."""
    return Path(os.environ.get('MMMIXPRO_CACHE') or '~/.cache/mmmixpro').expanduser().absolute()
