# Copyright (c) MMMixPro contributors.
"""CA-Swin with the converted weights of timm's Swin, every parameter drawn at random."""

import pytest
import torch
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS

from mmmixpro.utils.convert import ca_swin_from_timm

timm = pytest.importorskip('timm')


@pytest.fixture
def swins(redraw):
    """CASwin, timm's Swin of the same weights but for the last block, and timm's class attention block."""

    def swins(size, embed_dim, depths, num_heads):
        swin = timm.models.swin_transformer.SwinTransformer(
            img_size=size, num_classes=11, embed_dim=embed_dim, depths=depths, num_heads=num_heads
        )
        channels = 8 * embed_dim
        block = timm.models.cait.LayerScaleBlockClassAttn(channels, num_heads[-1], qkv_bias=True, init_values=1.0)
        arch = dict(embed_dims=embed_dim, depths=list(depths), num_heads=list(num_heads))
        backbone = dict(type='CASwin', arch=arch, img_size=size)
        head = dict(type='LinearClsHead', num_classes=11, in_channels=channels)
        init_default_scope('mmpretrain')
        ours = redraw(MODELS.build(dict(type='ImageClassifier', backbone=backbone, head=head)))
        ours.eval()
        redraw(swin.eval())
        missing, unexpected = ours.load_state_dict(ca_swin_from_timm(swin.state_dict()), strict=False)
        assert not unexpected
        prefix = f'backbone.stages.3.blocks.{depths[-1] - 1}.'
        assert all(key.startswith(prefix) for key in missing)
        state = {key.removeprefix(prefix): value for key, value in ours.state_dict().items() if key in missing}
        cls_token = state.pop('cls_token')
        # LayerScale of ones is none.
        names = {'ffn.layers.0.0': 'mlp.fc1', 'ffn.layers.1': 'mlp.fc2'}
        for key in [key for key in state if key.startswith('ffn')]:
            name, kind = key.rsplit('.', 1)
            if name in names:
                state[f'{names[name]}.{kind}'] = state[key]
            del state[key]
        missing, unexpected = block.load_state_dict(state, strict=False)
        assert (set(missing), unexpected) == ({'gamma_1', 'gamma_2'}, [])
        return ours, swin, block.eval(), cls_token

    return swins


@torch.no_grad()
def check_ca_swin(ours, swin, block, cls_token, size):
    trunk = []
    swin.layers[-1].blocks[-1].register_forward_pre_hook(lambda _, args: trunk.append(args[0]))
    images = torch.randn(2, 3, *size)
    swin(images)
    patches = trunk[0].flatten(1, 2)
    found = []
    ours.backbone.stages[-1].blocks[-1].register_forward_pre_hook(lambda _, args: found.append(args[0]))
    logits = ours(images)
    torch.testing.assert_close(found[0], patches, rtol=0, atol=1e-4)
    assert patches.std() > 0.3

    feature = swin.norm(block(patches, cls_token.expand(2, -1, -1)))[:, 0]
    expected = swin.head.fc(feature)
    assert expected.std() > 0.3
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)

    blocks = ours.backbone.stages[1].blocks
    blocks[0], blocks[1] = blocks[1], blocks[0]
    assert (ours(images) - logits).abs().max() > 1e-2


# Maps that windows divide: elsewhere timm shifts before it pads, mmpretrain after, as the official code does.
SWIN_SIZES = pytest.mark.parametrize('size', [(224, 224), (224, 448)])


@SWIN_SIZES
def test_ca_swin_is_the_trunk_of_swin_and_a_block_of_cait(size, swins):
    check_ca_swin(*swins(size, 8, (1, 2, 2, 2), (1, 2, 2, 4)), size)


@pytest.mark.slow
@SWIN_SIZES
def test_published_ca_swin(size, swins):
    check_ca_swin(*swins(size, 96, (2, 2, 6, 2), (3, 6, 12, 24)), size)


def test_official_swin(swins):
    """Stages end with the merging of patches, and buffers are stored; timm's own reader is the judge."""
    ours, swin, *_ = swins((224, 224), 8, (1, 2, 2, 2), (1, 2, 2, 4))
    official = {}
    for name, value in swin.state_dict().items():
        if '.downsample.' in name:
            stage = int(name.split('.')[1])
            name = name.replace(f'layers.{stage}.', f'layers.{stage - 1}.')
        official[name.replace('head.fc.', 'head.')] = value
    official['layers.0.blocks.0.attn.relative_position_index'] = torch.zeros(49, 49, dtype=torch.long)
    official['layers.0.blocks.1.attn_mask'] = torch.zeros(4, 49, 49)
    read = timm.models.swin_transformer.checkpoint_filter_fn(dict(official), swin)
    assert read.keys() == swin.state_dict().keys()
    converted = ca_swin_from_timm(official)
    expected = ca_swin_from_timm(swin.state_dict())
    assert converted.keys() == expected.keys()
    assert all(torch.equal(converted[name], expected[name]) for name in expected)
