# Copyright (c) MMMixPro contributors.
"""What mmengine keeps by name for the length of a process: loggers, visualizers, scopes, counts."""

from collections import OrderedDict

from mmengine.utils import ManagerMixin


def forget(patch):
    """Hide what other runs left, until ``patch`` is undone.

    Runs are named by config and second: a second run of one config within the second would log
    into the folder of the first.
    """
    classes = [ManagerMixin]
    for cls in classes:
        classes += cls.__subclasses__()
        patch.setattr(cls, '_instance_dict', OrderedDict())
