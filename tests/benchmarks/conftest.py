# Copyright (c) MMMixPro contributors.
import sys
from pathlib import Path

# As for `python benchmarks/<script>.py`.
sys.path.insert(0, str(Path(__file__).parents[2] / 'benchmarks'))
