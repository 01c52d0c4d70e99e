# Copyright (c) MMMixPro contributors.
"""What docs/add_method.md says, done."""

from importlib import import_module

import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS
from pages import blocks

MODULE, CONFIG, TESTS = blocks('add_method.md')


@pytest.fixture
def written(users_folder):
    for name, text in (('my_methods', MODULE), ('mine', CONFIG), ('prove_my_methods', TESTS)):
        (users_folder / f'{name}.py').write_text(text)
    return users_folder


def test_the_config_trains(written, vit_cfg, make_batch):
    cfg = Config.fromfile(written / 'mine.py')
    cfg.model.update(backbone=vit_cfg())
    cfg.model.head.update(num_classes=7, in_channels=32)
    cfg.model.train_cfg.probs = [1.0, 0.0]
    model = MODELS.build(cfg.model)
    images, samples, _ = make_batch(5)
    seen = []
    model.observer = lambda augment, plan, *rest: seen.append((type(augment).__name__, plan, rest[-1]))
    loss = model.loss(images, samples)['loss']
    loss.backward()
    assert torch.isfinite(loss)
    ((mixer, plan, weights),) = seen
    assert mixer == 'HalfMix' and plan.mask.shape == (1, 64, 64)
    assert not torch.allclose(weights[0], plan.lam)  # of attention, not of area


def test_what_the_page_calls_a_proof(written):
    proof = import_module('prove_my_methods')
    tests = [getattr(proof, name) for name in dir(proof) if name.startswith('test_')]
    assert len(tests) == 2
    for test in tests:
        test()


@pytest.mark.parametrize(
    ('line', 'broken'),
    [
        ('share = (sharp * plan', 'share = (attention * plan'),
        ('plan.coverage(*sharp.shape[1:])', 'plan.coverage(*sharp.shape[1:]).flip(2)'),
        ('return share, 1 - share', 'return 1 - share, share'),
    ],
)
def test_the_proof_can_fail(line, broken, written):
    assert line in MODULE
    (written / 'my_methods.py').write_text(MODULE.replace(line, broken))
    with pytest.raises(AssertionError):
        import_module('prove_my_methods').test_weights_are_the_oracles()
