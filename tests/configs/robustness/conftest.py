# Copyright (c) MMMixPro contributors.
from pathlib import Path

import pytest
import robustness_sets
from cifar_files import write_cifar100
from mmengine.config import Config
from mmpretrain.datasets import CIFAR100

CONFIGS = Path(__file__).parents[3] / 'configs'


@pytest.fixture(scope='session')
def roots(tmp_path_factory):
    root = tmp_path_factory.mktemp('roots')
    robustness_sets.write_imagenet(root / 'imagenet', side=224)  # as ImageNet-C has them
    robustness_sets.link_sets(root / 'sets', root / 'imagenet')
    robustness_sets.write_cifar100_c(root / 'sets/cifar100-c')
    return root


@pytest.fixture(scope='session')
def cifar100(roots):
    """What mmpretrain checks the files by; it looks for both, whichever is read."""

    def colour(label):
        return robustness_sets.colour(label)[::-1]

    return {split: write_cifar100(roots / 'cifar100', split, range(100), colour) for split in ('train', 'test')}


@pytest.fixture
def load(roots, cifar100, monkeypatch):
    """A leaf on the miniatures; what is corrupted by two corruptions at two severities, as those have it."""
    monkeypatch.setenv('IMAGENET_ROOT', str(roots / 'imagenet'))
    monkeypatch.setenv('CIFAR100_ROOT', str(roots / 'cifar100'))
    monkeypatch.setenv('ROBUSTNESS_ROOT', str(roots / 'sets'))
    for split, hashes in cifar100.items():
        monkeypatch.setattr(CIFAR100, f'{split}_list', hashes)

    def load(leaf):
        cfg = Config.fromfile(CONFIGS / f'robustness/{leaf}.py')
        dataset = cfg.test_dataloader.dataset
        if robustness_sets.suite_of(leaf) in robustness_sets.CORRUPTED:
            dataset.update(corruptions=['gaussian_noise', 'fog'], severities=[1, 5])
        # Serialising collects garbage, which takes seconds within pytest.
        dataset.get('dataset', dataset).serialize_data = False
        return cfg

    return load
