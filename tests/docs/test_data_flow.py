# Copyright (c) MMMixPro contributors.
"""What docs/data_flow.md says, done; and its picture, drawn."""

import importlib.util

import numpy as np
import pytest
import torch
from pages import ROOT, blocks


@pytest.fixture
def names():
    """What the code of the page has defined."""
    names = {}
    (code,) = blocks('data_flow.md')
    exec(code, names)
    return names


def test_it_is_what_the_classifier_does(names, monkeypatch):
    model = names['model']
    monkeypatch.setattr(model.mixers[0], 'plan', lambda *_: names['plan'])
    loss = model.loss(names['images'], names['scores'])['loss']
    torch.testing.assert_close(loss, names['loss'])
    assert names['w_i'].shape == names['w_j'].shape == (4,)
    assert names['tap'].map.shape == (4, 4, 4)


def test_the_picture_shows_the_step(names):
    spec = importlib.util.spec_from_file_location('draw_data_flow', ROOT / 'docs/scripts/draw_data_flow.py')
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    model, images, labels = names['model'], names['images'], torch.arange(4)
    seen = script.step(model, images, labels)
    figure = script.draw(model, images, seen, [f'class {i}' for i in range(10)], labels.tolist())
    axes = {ax.get_title(): ax for ax in figure.axes}
    assert len(axes) == 10
    (mask,) = (ax for title, ax in axes.items() if title.startswith('2'))
    np.testing.assert_array_equal(mask.images[0].get_array(), seen['plan'].mask[0])
    (attention,) = (ax for title, ax in axes.items() if title.startswith('4  class'))
    np.testing.assert_array_equal(attention.images[0].get_array(), seen['attention'][0])
    lengths = [bar.get_width() for bar in axes['5  how much i counts'].patches]
    weights = seen['weights']
    expected = [seen['plan'].lam[0], weights.lam_attn[0], weights.alpha[0], weights[0][0]]
    np.testing.assert_allclose(lengths, expected, rtol=1e-6)
    area, attn, alpha, lam = expected
    np.testing.assert_allclose(lam, alpha * attn + (1 - alpha) * area, rtol=1e-5)  # Eq. 9
    label = [bar.get_width() for bar in axes['6  mixed label'].patches]
    np.testing.assert_allclose(label, seen['target'][0], rtol=1e-6)
    (loss,) = (text.get_text() for ax in figure.axes for text in ax.texts if 'cross entropy' in text.get_text())
    assert loss.endswith(f'{seen["losses"][0]:.2f}')
