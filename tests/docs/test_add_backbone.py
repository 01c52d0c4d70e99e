# Copyright (c) MMMixPro contributors.
"""What docs/add_backbone.md says, done."""

from importlib import import_module

import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS
from pages import blocks

MODULE, CONFIG, TESTS = blocks('add_backbone.md')


@pytest.fixture
def written(users_folder):
    for name, text in (('my_backbone', MODULE), ('mine', CONFIG), ('prove_my_backbone', TESTS)):
        (users_folder / f'{name}.py').write_text(text)
    return users_folder


def test_the_config_trains(written, make_batch):
    cfg = Config.fromfile(written / 'mine.py')
    cfg.model.head.num_classes = 7
    model = MODELS.build(cfg.model)
    images, samples, _ = make_batch(4, size=(128, 128))
    for _ in range(8):  # all augments
        loss = model.loss(images, samples)['loss']
        assert torch.isfinite(loss)


def test_unregistered_it_is_refused(written):
    (written / 'my_backbone.py').write_text(MODULE[: MODULE.index('@register_class_attention')])
    cfg = Config.fromfile(written / 'mine.py')
    with pytest.raises(ValueError, match='MyBackbone has no known class attention'):
        MODELS.build(cfg.model)


def test_what_the_page_calls_a_proof(written):
    import_module('prove_my_backbone').test_map_is_the_class_row_of_the_full_softmax()


@pytest.mark.parametrize(
    ('line', 'broken'),
    [('backbone.blocks[-1]', 'backbone.blocks[0]'), ('self.num_extra_tokens = 1', 'self.num_extra_tokens = 0')],
)
def test_the_proof_can_fail(line, broken, written):
    (written / 'my_backbone.py').write_text(MODULE.replace(line, broken))
    with pytest.raises((AssertionError, RuntimeError, ValueError)):
        import_module('prove_my_backbone').test_map_is_the_class_row_of_the_full_softmax()
