# Copyright (c) MMMixPro contributors.
"""A whole step of training against NumPy, which sees only what hooks take from the real network."""

import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS
from oracles import pal
from oracles.attention import split_heads


class Witness:
    """Takes down the image that enters, queries and keys of the last block, logits and labels."""

    def __init__(self, model):
        backbone = model.backbone
        self.seen = {}
        if hasattr(backbone, 'layers'):
            first, self.attn = backbone.patch_embed, backbone.layers[-1].attn
            self.parts = dict(q=('qkv', 0, 3), k=('qkv', 1, 3))
        else:
            first, self.attn = backbone.stages[0].patch_embed, backbone.stages[-1].blocks[-1].attn
            self.parts = dict(q=('q', 0, 1), k=('kv', 0, 2))
        first.register_forward_pre_hook(lambda _, args: self.note('image', args[0]))
        for name in {layer for layer, _, _ in self.parts.values()}:
            layer = getattr(self.attn, name)
            layer.register_forward_hook(lambda _, args, out, name=name: self.note(name, out))
        model.head.register_forward_hook(lambda _, args, out: self.note('logits', out))
        model.head.loss_module.register_forward_pre_hook(lambda _, args: self.note('labels', args[1]))

    def note(self, name, tensor):
        self.seen.setdefault(name, []).append(tensor.detach().double().numpy().copy())

    def __getitem__(self, name):
        (only,) = self.seen[name]  # one forward pass: each is seen once
        return only

    def attention(self, num_extra_tokens, h, w):
        queries, keys = (
            [split_heads(tokens, self.attn.num_heads, part, parts) for tokens in self[layer]]
            for layer, part, parts in (self.parts['q'], self.parts['k'])
        )
        return pal.attention_maps(queries, keys, num_extra_tokens, h, w)


MASKMIX = dict(type='MixProBatchAugment', mask_size=64, pairing='flip')
METHODS = dict(
    pal=(dict(type='PALClassifier', augments=[MASKMIX]), pal.by_pal),
    transmix=(
        dict(
            type='MixClassifier',
            labels=dict(type='AttentionLabels'),
            augments=[dict(type='TransMixBatchAugment')],
        ),
        pal.by_transmix,
    ),
    maskmix=(dict(type='MixClassifier', augments=[MASKMIX]), pal.by_area),
)
# Backbone, token stride, size of the images in pixels: the last cells of 64 px are cropped.
BACKBONES = dict(deit=(16, (80, 144)), pvt=(32, (96, 160)))


def build(backbone, method, make, redraw):
    classifier_cfg, vit_cfg, pvt_cfg = make
    cfg = dict(deit=vit_cfg, pvt=pvt_cfg)[backbone](drop_path_rate=0.3)
    model = MODELS.build(classifier_cfg(backbone=cfg, **METHODS[method][0]))
    redraw(model).head.layers.head.weight.data /= 4  # or alpha were close to 0 in most draws
    return model.train()


@pytest.fixture
def make(classifier_cfg, vit_cfg, pvt_cfg):
    return classifier_cfg, vit_cfg, pvt_cfg


def run(model, batch, backbone, method, num_steps=5, precision=None):
    """Steps of training: loss and labels of the model, of the oracle, and the oracle's by area."""
    images, samples, scores = batch
    stride, (height, width) = BACKBONES[backbone]
    losses, labels = [], []
    for _ in range(num_steps):
        witness = Witness(model)
        with torch.autocast('cpu', dtype=precision, enabled=precision is not None):
            loss = model.loss(images, samples)['loss'].item()
        logits, attention = witness['logits'], witness.attention(1, height // stride, width // stride)
        given = (images.numpy(), witness['image'], scores.numpy(), attention, logits)
        targets = [pal.step_labels(*given, lam) for lam in (METHODS[method][1], pal.by_area)]
        losses.append([loss, *(pal.mean_loss(logits, target, 0.1) for target in targets)])
        labels.append([witness['labels'], *targets])
    return np.array(losses).T, np.array(labels).swapaxes(0, 1)


@pytest.mark.parametrize('num', [1, 2, 5])
@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('backbone', BACKBONES)
def test_loss_of_a_step_is_that_of_the_equations(backbone, method, num, make, make_batch, redraw):
    model = build(backbone, method, make, redraw).double()
    batch = make_batch(num, BACKBONES[backbone][1], dtype=torch.float64)
    (loss, expected, by_area), _ = run(model, batch, backbone, method)

    np.testing.assert_allclose(loss, expected, rtol=0, atol=1e-5)
    if method != 'maskmix' and num > 1:
        # The test can tell: labels by area give another loss.
        assert abs(expected - by_area).max() > 1e-4


@pytest.mark.parametrize('backbone', BACKBONES)
def test_bf16_autocast_leaves_labels_in_float32(backbone, make, make_batch, redraw):
    """The oracle is given the network's bfloat16 queries, keys and logits."""
    model = build(backbone, 'pal', make, redraw)
    batch = make_batch(5, BACKBONES[backbone][1])
    (loss, expected, _), (labels, expected_labels, by_area) = run(
        model, batch, backbone, 'pal', precision=torch.bfloat16
    )

    np.testing.assert_allclose(labels, expected_labels, rtol=0, atol=1e-5)
    assert abs(labels - by_area).max() > 1e-2
    # PyTorch's own log_softmax is bfloat16 here.
    np.testing.assert_allclose(loss, expected, rtol=0, atol=1e-2)


def test_image_that_patches_do_not_divide(make, make_batch, redraw):
    """The last token of 72 px would be padded, and its share of the mask a guess."""
    model = build('deit', 'pal', make, redraw)
    images, samples, _ = make_batch(5, (72, 72))
    with pytest.raises(ValueError, match='72 x 72 px do not divide into tokens of 16 px'):
        model.loss(images, samples)
