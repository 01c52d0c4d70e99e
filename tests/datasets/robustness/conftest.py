# Copyright (c) MMMixPro contributors.
import pytest
import robustness_sets
from mmengine.registry import DefaultScope
from mmpretrain.registry import DATASETS
from robustness_sets import PIPELINE


@pytest.fixture(scope='session')
def imagenet(tmp_path_factory):
    root = tmp_path_factory.mktemp('imagenet')
    robustness_sets.write_imagenet(root)
    return root


@pytest.fixture(scope='session')
def sets(imagenet, tmp_path_factory):
    """All sets, which no test may change."""
    root = tmp_path_factory.mktemp('robustness')
    robustness_sets.link_sets(root, imagenet)
    robustness_sets.write_cifar100_c(root / 'cifar100-c')
    return root


@pytest.fixture
def build():
    """Build a dataset; not serialised, for that collects garbage, which takes long within pytest."""

    def build(type, pipeline=PIPELINE, **kwargs):
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            return DATASETS.build(dict(type=type, pipeline=pipeline, serialize_data=False, **kwargs))

    return build


@pytest.fixture
def logged(monkeypatch):
    """What the datasets write into the log."""
    messages = []
    for module in ('folders', 'imagenet_c', 'corruption_set'):
        path = f'mmmixpro.datasets.robustness.{module}.print_log'
        monkeypatch.setattr(path, lambda message, **kwargs: messages.append(message))
    return messages
