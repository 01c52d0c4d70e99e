# Copyright (c) MMMixPro contributors.
"""Checkpoints of PVT in models of another size, and of another task."""

import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS
from oracles.resize import bilinear


def test_classification_checkpoint_in_a_dense_model(pvt_cfg, redraw):
    source, target = redraw(MODELS.build(pvt_cfg())), MODELS.build(pvt_cfg(out_type='featmap'))
    missing, unexpected = target.load_state_dict(source.state_dict(), strict=False)
    assert not missing
    assert set(unexpected) == {'cls_token', 'norm.weight', 'norm.bias'}
    named = dict(source.named_parameters())
    for name, param in target.named_parameters():
        value = named[name][:, 1:] if name == 'stages.3.pos_embed' else named[name]
        assert torch.equal(param, value), name


def load(source, target, strict):
    """A checkpoint, as it comes from a file, loaded beneath the prefix of a classifier."""
    state = {f'backbone.{name}': value.clone() for name, value in source.state_dict().items()}
    holder = torch.nn.Module()
    holder.backbone = target
    before = {name: value.clone() for name, value in state.items()}
    result = holder.load_state_dict(state, strict=strict)
    assert all(torch.equal(state[name], before[name]) for name in before)  # the caller's stays
    return result


@pytest.mark.parametrize('out_type', ['cls_token', 'featmap'])
@pytest.mark.parametrize('img_size', [96, (64, 128), 32])
def test_position_embeddings_are_resized_on_loading(img_size, out_type, pvt_cfg, redraw):
    source = redraw(MODELS.build(pvt_cfg()))
    target = MODELS.build(pvt_cfg(img_size=img_size, out_type=out_type))
    load(source, target, strict=out_type == 'cls_token')
    size = (img_size, img_size) if isinstance(img_size, int) else img_size
    for i, stride in enumerate((4, 8, 16, 32)):
        theirs = source.stages[i].pos_embed[0].detach().numpy()
        ours = target.stages[i].pos_embed[0].detach().numpy()
        if i == 3 and out_type == 'cls_token':
            np.testing.assert_array_equal(ours[0], theirs[0])
            ours = ours[1:]
        grid = theirs[-((64 // stride) ** 2) :].reshape(64 // stride, 64 // stride, -1)
        expected = bilinear(grid, size[0] // stride, size[1] // stride)
        np.testing.assert_allclose(ours, expected.reshape(ours.shape), rtol=0, atol=1e-5)


@pytest.mark.parametrize('out_type', ['cls_token', 'featmap'])
def test_checkpoint_of_images_that_are_not_square(out_type, pvt_cfg, redraw):
    """Of the same size: nothing to resize, as when training is resumed."""
    source = redraw(MODELS.build(pvt_cfg(img_size=(64, 128))))
    target = MODELS.build(pvt_cfg(img_size=(64, 128), out_type=out_type))
    load(source, target, strict=out_type == 'cls_token')
    for i, stage in enumerate(target.stages):
        expected = source.stages[i].pos_embed
        assert torch.equal(stage.pos_embed, expected[:, -stage.pos_embed.size(1) :])
