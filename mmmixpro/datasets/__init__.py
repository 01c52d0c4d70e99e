# Copyright (c) MMMixPro contributors.
"""Data that MMMixPro brings along; import it from its modules."""
