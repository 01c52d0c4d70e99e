# Copyright (c) MMMixPro contributors.
"""``load_from`` in tools/train.py: a whole model as training starts, as strict as all other loading."""

import pytest
import torch
from mmengine import fileio
from mmengine.config import Config
from mmpretrain.registry import MODELS


class Payload:
    def __reduce__(self):
        return exec, ('raise SystemExit',)


@pytest.fixture
def start(tiny):
    """Trains the tiny config from a checkpoint of this content, with a learning rate of 0."""

    def start(content, *options, config=tiny.config):
        path = tiny.folder / 'start.pth'
        torch.save(content, path)
        settings = [f'load_from={path}', 'train_cfg.max_epochs=1', 'optim_wrapper.optimizer.lr=0.0']
        tiny.tool('train.py', config, '--work-dir', 'loaded', '--no-validate', '--cfg-options', *settings, *options)
        return tiny.checkpoint('loaded/epoch_1.pth')

    return start


@pytest.fixture
def weights(tiny, redraw, monkeypatch):
    monkeypatch.syspath_prepend(tiny.folder)
    return redraw(MODELS.build(Config.fromfile(tiny.config).model)).state_dict()


def same(found, expected):
    return all(torch.equal(found[name], weight) for name, weight in expected.items())


def test_training_starts_from_it(start, weights, tiny, monkeypatch):
    read = []
    get = fileio.get
    monkeypatch.setattr(fileio, 'get', lambda path, **kwargs: read.append(str(path)) or get(path, **kwargs))
    assert same(start(dict(state_dict=weights))['state_dict'], weights)
    assert [path for path in read if path.endswith('.pth')] == [str(tiny.folder / 'start.pth')]
    # The average starts there too.
    config = tiny.config.with_stem('averaging')
    config.write_text("_base_ = 'tiny.py'\ncustom_hooks = [dict(type='EMAHook', momentum=1e-3)]\n")
    saved = start(dict(state_dict=weights), config=config)
    assert same(saved['state_dict'], weights)
    assert same(saved['ema_state_dict'], {f'module.{name}': weight for name, weight in weights.items()})


@pytest.mark.parametrize(
    ('change', 'match'),
    [
        (lambda w: dict(state_dict={k: v for k, v in w.items() if k != 'backbone.cls_token'}),
         r'missing in the checkpoint \(1\): backbone\.cls_token\n(.|\n)*belong in the init_cfg'),
        (lambda w: dict(state_dict={f'model.{k}': v for k, v in w.items()}), r' 0 of \d+ tensors'),
        (lambda w: dict(state_dict=w, meta=Payload()), 'carries code'),
    ],
    ids=['dropped', 'renamed', 'code'],
)  # fmt: skip
def test_what_does_not_fit_is_refused(change, match, start, weights):
    with pytest.raises(ValueError, match=match):
        start(change(weights))
