# Copyright (c) MMMixPro contributors.
"""Helpers that belong to no method.

Nothing is imported here: the version check in ``compat`` runs before torch is known to exist.
"""
