# Copyright (c) MMMixPro contributors.
"""A user's own backbone, registered as the docstring of ``register_class_attention`` has it."""

from functools import partial

import pytest
import torch
from mmpretrain.registry import MODELS
from torch import nn
from torch.nn import functional as F

from mmmixpro.attention import ClassRow, class_attention, class_attention_of, outputs_of, register_class_attention
from mmmixpro.attention.base import PROVIDERS


class Toy(nn.Module):
    """A user's own backbone: one attention over patches of 4 px, class token first."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 4, 4)
        self.attn = nn.Module()
        self.attn.q_norm, self.attn.k_norm = nn.LayerNorm(4), nn.LayerNorm(4)
        self.attn.scaled_dot_product_attention = F.scaled_dot_product_attention
        self.settings = {}

    def queries_and_keys(self, images):
        x = self.embed(images).flatten(2).transpose(1, 2)
        x = torch.cat([x.mean(1, keepdim=True), x], 1).unflatten(2, (2, 4)).transpose(1, 2)
        return self.attn.q_norm(x), self.attn.k_norm(x + 1), x

    def forward(self, images):
        attended = self.attn.scaled_dot_product_attention(*self.queries_and_keys(images), **self.settings)
        return (attended.transpose(1, 2).flatten(2)[:, 0],)


class ToyAttention(ClassRow):
    def __init__(self, backbone):
        self.attention = backbone.attn
        self.token_stride = 4
        self.num_extra_tokens = 1


class ToyOutputs(ToyAttention):
    def watch(self, record):
        return outputs_of(self.attention.q_norm, self.attention.k_norm, then=record)


@pytest.fixture
def providers(monkeypatch):
    monkeypatch.setattr('mmmixpro.attention.base.PROVIDERS', dict(PROVIDERS))


@pytest.mark.parametrize('way', ['keyword', 'preset'])
def test_scale_of_torchs_function(way, providers):
    """It multiplies, other than that of mmpretrain's function, which divides (T2T-ViT in test_relatives.py)."""
    toy = Toy()

    register_class_attention(Toy)(ToyAttention)
    images = torch.randn(2, 3, 8, 12)
    maps = []
    for scale in (0.5, 1.5):  # the first is what heads of 4 channels have
        if way == 'preset':
            toy.attn.scaled_dot_product_attention = partial(F.scaled_dot_product_attention, scale=scale)
        else:
            toy.settings = dict(scale=scale)
        with class_attention(toy, (8, 12)) as tap:
            toy(images)
        maps.append(tap.map.flatten(1))
    queries, keys = toy.queries_and_keys(images)[:2]
    for scale, found in zip((0.5, 1.5), maps, strict=True):
        expected = (queries[:, :, :1] @ keys.transpose(2, 3) * scale).softmax(-1)[:, :, 0, 1:].mean(1)
        torch.testing.assert_close(found, (expected / expected.sum(1, keepdim=True)).detach())
    assert not torch.allclose(*maps, atol=1e-3)
    for settings in (dict(attn_mask=torch.ones(7, 7, dtype=torch.bool)), dict(is_causal=True)):
        toy.settings = settings
        refusal = pytest.raises(ValueError, match='ToyAttention .* masks it .*ComputedAttention')
        with refusal, class_attention(toy, (8, 12)):
            toy(images)


@pytest.mark.parametrize('way', ['function', 'modules'])
def test_a_users_own_backbone(way, providers, classifier_cfg, make_batch, redraw):
    """Both ways of the docstring."""
    with pytest.raises(ValueError, match='Toy has no known class attention, .*register_class_attention'):
        class_attention_of(Toy())

    register_class_attention(Toy)(dict(function=ToyAttention, modules=ToyOutputs)[way])

    class Child(Toy):
        pass

    images, samples, _ = make_batch(4, size=(8, 12))
    for backbone in (Toy(), redraw(Child())):
        with class_attention(backbone, (8, 12)) as tap:
            backbone(images)
        queries, keys, _ = backbone.queries_and_keys(images)
        logits = queries[:, :, :1] @ keys.transpose(2, 3) / 2
        expected = logits.softmax(-1)[:, :, 0, 1:].mean(1)
        expected = expected / expected.sum(1, keepdim=True)
        torch.testing.assert_close(tap.map, expected.detach().unflatten(1, (2, 3)))

    cfg = classifier_cfg(backbone=Child(), augments=[dict(type='MixProBatchAugment', mask_size=4)])
    cfg['head'] = dict(cfg['head'], type='LinearClsHead', in_channels=8)
    assert torch.isfinite(MODELS.build(cfg).loss(images, samples)['loss'])
