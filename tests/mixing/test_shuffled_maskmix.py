# Copyright (c) MMMixPro contributors.
"""MaskMix with shuffled patches. Every patch of every image is of a value of its own."""

import numpy as np
import pytest
import torch

from mmmixpro.mixing import ShuffledMaskMix


def patches_of(images, side):
    """``(N, L)`` the value of each patch; each is of one value."""
    tiles = images[:, 0].unflatten(2, (-1, side)).unflatten(1, (-1, side)).transpose(2, 3).flatten(3).flatten(1, 2)
    assert (tiles == tiles[..., :1]).all()
    return tiles[..., 0]


def numbered(num, height, width, side):
    values = torch.arange(num * (height // side) * (width // side)).view(num, 1, height // side, width // side)
    return values.repeat_interleave(side, 2).repeat_interleave(side, 3).expand(-1, 3, -1, -1).float().contiguous()


@pytest.mark.parametrize(('partner', 'own'), [(True, False), (False, True), (True, True), (False, False)])
@pytest.mark.parametrize(('num', 'height', 'width'), [(1, 32, 32), (2, 48, 32), (5, 40, 56)])
def test_patches_change_places_within_their_part(num, height, width, partner, own):
    images = numbered(num, height, width, 8)
    before, patches = images.clone(), patches_of(images, 8)
    mixer = ShuffledMaskMix(patch_size=8, shuffle_partner=partner, shuffle_own=own, mask_size=16)
    moved = dict(partner=0, own=0)
    for _ in range(20):
        plan = mixer.draw(images)
        mixed = plan.mix_images(images)
        assert (mixed == mixed[:, :1]).all()
        mask = plan.pixel_mask()[:, ::8, ::8].flatten(1)
        for i, values in enumerate(patches_of(mixed, 8)):
            for part, source, kept in (('own', i, mask[i]), ('partner', plan.partner[i], ~mask[i])):
                expected = patches[source][kept]
                assert sorted(values[kept].tolist()) == expected.tolist()
                moved[part] += int((values[kept] != expected).sum())
    if num > 1:
        assert (moved['partner'] > 0) == partner
        assert (moved['own'] > 0) == own
    assert torch.equal(images, before)


def test_every_place_is_equally_likely(monkeypatch):
    """Two cells of 9 patches, one of each image: the first place shows any patch of its cell, and no other."""
    monkeypatch.setattr(np.random, 'beta', lambda a, b, size: np.full(size, 0.5))
    mixer = ShuffledMaskMix(patch_size=4, mask_size=12, shuffle_own=True)
    orders = mixer.draw(torch.zeros(1800, 1, 12, 24)).order
    shown = torch.bincount(orders[:, 0], minlength=18).view(3, 6)
    assert (shown[:, 3:] == 0).all()
    # 8 degrees of freedom, 26.1 is the 0.1 % quantile.
    assert ((shown[:, :3] - 200) ** 2 / 200).sum() < 26.1


@pytest.mark.parametrize(
    'kwargs', [dict(patch_size=0), dict(patch_size=24), dict(patch_size=16, offset=8), dict(patch_size=16.0)]
)
def test_patches_that_do_not_divide_the_mask(kwargs):
    with pytest.raises(ValueError, match='patch_size'):
        ShuffledMaskMix(**kwargs)


def test_patches_that_do_not_divide_the_image():
    with pytest.raises(ValueError, match='40 x 40'):
        ShuffledMaskMix(mask_size=32, patch_size=16).draw(torch.zeros(2, 3, 40, 40))
