# Copyright (c) MMMixPro contributors.
"""CA-Swin beside mmpretrain's Swin; tests/models/test_against_timm.py compares it with timm's."""

import pytest
import torch
from mmpretrain.registry import MODELS
from oracles.resize import cubic


@pytest.fixture
def make(ca_swin_cfg, redraw):
    def make(**kwargs):
        return redraw(MODELS.build(ca_swin_cfg(**kwargs)))

    return make


def count(backbone):
    return sum(p.numel() for p in backbone.parameters())


# Millions with a head of 1000 classes: Table 1 of MixPro; base is Swin's.
@pytest.mark.parametrize(('arch', 'millions'), [('tiny', 28.29), ('small', 49.60), ('base', 87.8)])
def test_no_parameter_overhead(arch, millions):
    ours, swin = (MODELS.build(dict(type=name, arch=arch)) for name in ('CASwin', 'SwinTransformer'))
    channels = ours.num_features[-1]
    assert (count(ours) + 1000 * (channels + 1)) / 1e6 == pytest.approx(millions, rel=1e-3)
    # A class token in place of the biases of 13 x 13 relative positions.
    assert count(ours) - count(swin) == channels - 169 * ours.num_heads[-1] < 0


@pytest.mark.parametrize('size', [(64, 64), (96, 160)])
def test_out_types(size, make, ca_swin_cfg):
    raw = make(out_type='raw').eval()
    images = torch.randn(2, 3, *size)
    h, w = size[0] // 32, size[1] // 32
    (tokens,) = raw(images)
    assert tokens.shape == (2, 1 + h * w, 32)
    cls_token = MODELS.build(ca_swin_cfg()).eval()
    cls_token.load_state_dict(raw.state_dict())
    torch.testing.assert_close(cls_token(images), (tokens[:, 0],))

    dense = MODELS.build(ca_swin_cfg(out_type='featmap', out_indices=(0, 1, 2, 3))).eval()
    missing, unexpected = dense.load_state_dict(raw.state_dict(), strict=False)
    assert {name.split('.')[0] for name in missing} == {'norm0', 'norm1', 'norm2'}
    assert all(name.startswith('stages.3.blocks.1.') for name in unexpected)
    maps = dense(images)
    assert [m.shape for m in maps] == [
        (2, channels, size[0] // stride, size[1] // stride)
        for channels, stride in zip((4, 8, 16, 32), (4, 8, 16, 32), strict=True)
    ]
    torch.testing.assert_close(maps[3], tokens[:, 1:].transpose(1, 2).unflatten(2, (h, w)))


def test_trunk_is_mmpretrains(make, ca_swin_cfg):
    """A Swin without its last block, weights under the same names."""
    ours = make(out_type='featmap').eval()
    cfg = ca_swin_cfg(type='SwinTransformer')
    cfg['arch']['depths'] = [1, 1, 1, 1]
    swin = MODELS.build(cfg)
    swin.eval()
    swin.load_state_dict(ours.state_dict())
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(ours(images)[0], swin(images)[0])


def test_absolute_position_embeddings(make):
    backbone = make(use_abs_pos_embed=True).eval()
    images = torch.randn(2, 3, 64, 64)
    with_positions = backbone(images)[0]
    backbone.absolute_pos_embed.data.zero_()
    without = make().eval()
    state = backbone.state_dict()
    del state['absolute_pos_embed']
    without.load_state_dict(state)
    torch.testing.assert_close(backbone(images), without(images))
    assert not torch.allclose(with_positions, without(images)[0], atol=1e-2)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('old', [2, 6])
def test_other_windows_on_loading(old, dtype, make, ca_swin_cfg, tmp_path):
    """Tables are resized, bicubically; indices are those of the new windows, whether stored or not."""
    stored = make(window_size=old).to(dtype).state_dict()
    lacking = {name: value for name, value in stored.items() if not name.endswith('index')}
    cubic_matrix = torch.tensor(cubic(2 * old - 1, 7), dtype=torch.float64)
    new = ca_swin_cfg(window_size=4)
    indices = {name: value for name, value in MODELS.build(new).state_dict().items() if name.endswith('index')}
    assert indices
    for weights in (stored, lacking):
        torch.save(dict(state_dict={f'backbone.{name}': value for name, value in weights.items()}), tmp_path / 'x.pth')
        init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'x.pth'), prefix='backbone.', strict=True)
        ours = MODELS.build(dict(new, init_cfg=init_cfg))
        ours.init_weights()
        state = ours.state_dict()
        for name, value in stored.items():
            if name.endswith('bias_table'):
                grid = value.double().T.unflatten(1, (2 * old - 1, 2 * old - 1))
                value = (cubic_matrix @ grid @ cubic_matrix.T).flatten(1).T
                tolerance = dict(rtol=torch.finfo(dtype).eps, atol=1e-5)
                torch.testing.assert_close(state[name].double(), value, **tolerance)
            else:
                assert torch.equal(state[name].double(), indices.get(name, value).double())


@pytest.mark.parametrize(
    'change', [lambda x: x[:-1], lambda x: torch.cat([x, x], 1), lambda x: x[0], lambda x: x.sum()]
)
def test_tables_that_cannot_be_resized_are_named(change, make, ca_swin_cfg, tmp_path):
    stored = make(window_size=4).state_dict()
    name = 'stages.1.blocks.0.attn.w_msa.relative_position_bias_table'
    torch.save(dict(stored, **{name: change(stored[name])}), tmp_path / 'x.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'x.pth'), strict=True)
    with pytest.raises(ValueError, match=r'another shape \(1\): stages.1.blocks.0.attn.w_msa.relative_position_bias_t'):
        MODELS.build(ca_swin_cfg(init_cfg=init_cfg)).init_weights()


def test_out_indices_are_spelled_as_elsewhere(ca_swin_cfg):
    for given, expected in ((-1, (3,)), (3, (3,)), ([-1], (3,))):
        assert MODELS.build(ca_swin_cfg(out_indices=given)).out_indices == expected
    assert MODELS.build(ca_swin_cfg(out_type='featmap', out_indices=(0, -1))).out_indices == (0, 3)


def test_norm_of_what_is_returned_can_be_left_out(make):
    backbone = make(norm_cfg=None).eval()
    images = torch.randn(2, 3, 64, 64)
    raw = []
    backbone.stages[-1].blocks[-1].register_forward_hook(lambda _, args, out: raw.append(out[:, 0]))
    assert torch.equal(backbone(images)[0], raw[0])


def test_dropout_behind_the_positions(make):
    backbone = make(drop_rate=0.5)
    dropped = []
    backbone.drop_after_pos.register_forward_hook(lambda _, args, out: dropped.append(out))
    backbone(torch.randn(2, 3, 64, 64))
    assert (dropped[0] == 0).any()


def test_drop_path_skips_both_branches(make):
    """Of all samples, but for one in a million: what is left is the class token as it was drawn."""
    block = make(drop_path_rate=0.4).stages[-1].blocks[-1]
    block.drop_path.drop_prob = block.ffn.dropout_layer.drop_prob = 1 - 1e-6
    x = torch.randn(4, 5, 32)
    expected = torch.cat([block.cls_token.expand(4, 1, 32), x], 1)
    block.train()
    assert torch.equal(block(x), expected)
    # Each of the two is of use.
    for part in (block.drop_path, block.ffn.dropout_layer):
        part.drop_prob = 0.0
        assert not torch.allclose(block(x), expected, atol=1e-2)
        part.drop_prob = 1 - 1e-6


def test_drop_path_rises_linearly(make):
    backbone = make(drop_path_rate=0.4)
    blocks = [block for stage in backbone.stages for block in stage.blocks]
    rates = [block.ffn.dropout_layer.drop_prob for block in blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    assert blocks[-1].drop_path.drop_prob == pytest.approx(0.4)


def test_initialisation(ca_swin_cfg):
    backbone = MODELS.build(ca_swin_cfg(arch=dict(embed_dims=48, depths=[1, 1, 1, 2], num_heads=[1, 2, 4, 8])))
    backbone.init_weights()
    for module in backbone.modules():
        if isinstance(module, torch.nn.Linear):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.1)
            assert module.bias is None or not module.bias.any()
        if isinstance(module, torch.nn.LayerNorm):
            assert (module.weight == 1).all()
            assert not module.bias.any()
    assert backbone.stages[3].blocks[1].cls_token.std().item() == pytest.approx(0.02, rel=0.2)


@pytest.mark.parametrize('frozen', [-1, 0, 2, 3])
def test_frozen_stages(frozen, make):
    """As Swin counts them: 0 freezes the patch embedding and the first stage."""
    backbone = make(frozen_stages=frozen)
    # From the start, for an optimizer that is built before the first epoch.
    for _ in range(2):
        for part, stage in [(backbone.patch_embed, 0), *((stage, i) for i, stage in enumerate(backbone.stages))]:
            assert all(param.requires_grad is (frozen < stage) for param in part.parameters())
        assert backbone.train() is backbone
    assert all(module.training is (frozen < 3) for module in backbone.stages[3].modules())
    assert backbone.eval() is backbone


def test_layer_depth_rises_towards_the_head(make):
    backbone = make()
    depths = [backbone.get_layer_depth(name)[0] for name, _ in backbone.named_parameters()]
    assert depths == sorted(depths)
    assert (depths[0], depths[-1]) == (0, 6)
    assert backbone.get_layer_depth('stages.3.blocks.1.cls_token') == (5, 7)


@pytest.mark.parametrize(
    ('kwargs', 'named'),
    [
        (dict(out_type='avg'), "out_type.*featmap.*'avg'"),
        (dict(out_indices=(2,)), r'out_indices=\(2,\) must be among \[3\]'),
        (dict(out_type='raw', out_indices=(2, 3)), r'out_indices=\(2, 3\) must be among \[3\]'),
        (dict(out_type='featmap', out_indices=(4,)), r'out_indices=\(4,\) must be among \[0, 1, 2, 3\]'),
        (dict(out_indices=()), r'out_indices=\(\)'),
        (dict(frozen_stages=4), 'frozen_stages must be from -1 to 3.*got 4'),
        (dict(arch='micro'), "arch must be one of .*tiny.*'micro'"),
        (dict(arch=dict(embed_dims=4)), 'a dict with .*depths'),
    ],
)
def test_arguments_out_of_range_are_named(kwargs, named, ca_swin_cfg):
    with pytest.raises(ValueError, match=named):
        MODELS.build(ca_swin_cfg(**kwargs))
