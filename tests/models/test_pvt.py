# Copyright (c) MMMixPro contributors.
import pytest
import torch
from mmpretrain.registry import MODELS

from mmmixpro.attention import class_attention_of
from mmmixpro.models import PVT


def parameters_of(reference, depths):
    """Parameters of mmdet's PVT under our names."""
    theirs = reference.state_dict()
    ours = {}
    for i, depth in enumerate(depths):
        for name in ('projection.weight', 'projection.bias', 'norm.weight', 'norm.bias'):
            ours[f'stages.{i}.patch_embed.{name}'] = theirs.pop(f'layers.{i}.0.{name}')
        ours[f'stages.{i}.pos_embed'] = theirs.pop(f'layers.{i}.1.0.pos_embed')
        for j in range(depth):
            here, there = f'stages.{i}.blocks.{j}.', f'layers.{i}.1.{j + 1}.'
            for kind in ('weight', 'bias'):
                for norm in ('norm1', 'norm2'):
                    ours[f'{here}{norm}.{kind}'] = theirs.pop(f'{there}{norm}.{kind}')
                q, k, v = theirs.pop(f'{there}attn.attn.in_proj_{kind}').chunk(3)
                ours[f'{here}attn.q.{kind}'], ours[f'{here}attn.kv.{kind}'] = q, torch.cat([k, v])
                ours[f'{here}attn.proj.{kind}'] = theirs.pop(f'{there}attn.attn.out_proj.{kind}')
                for part in ('sr', 'norm'):
                    if f'{there}attn.{part}.{kind}' in theirs:
                        ours[f'{here}attn.{part}.{kind}'] = theirs.pop(f'{there}attn.{part}.{kind}')
                for linear, conv in (('0.0', '0'), ('1', '3')):
                    weight = theirs.pop(f'{there}ffn.layers.{conv}.{kind}')
                    ours[f'{here}ffn.layers.{linear}.{kind}'] = weight.flatten(1) if kind == 'weight' else weight
    assert not theirs
    return ours


@pytest.fixture
def pair(mmdet_pvt, pvt_cfg, redraw):
    """A narrow PVT of ours and the same of mmdet's, every parameter drawn at random."""

    def pair(**kwargs):
        cfg = pvt_cfg(**kwargs)
        arch = cfg['arch']
        settings = {name: arch[name] for name in ('num_layers', 'num_heads', 'mlp_ratios', 'sr_ratios')}
        theirs = mmdet_pvt.PyramidVisionTransformer(
            pretrain_img_size=cfg['img_size'], embed_dims=arch['embed_dims'][0], **settings
        )
        ours = redraw(MODELS.build(cfg))
        with torch.no_grad():
            named = dict(ours.named_parameters())
            for name, value in parameters_of(redraw(theirs), arch['num_layers']).items():
                named.pop(name)[:, -value.size(1) :].copy_(value) if name.endswith('pos_embed') else (
                    named.pop(name).copy_(value)
                )
        ours.eval()
        return ours.double(), theirs.eval().double(), set(named)

    return pair


@pytest.mark.parametrize('size', [(64, 64), (224, 224), (96, 160), (128, 64)])
def test_maps_are_those_of_mmdet(size, pair):
    ours, theirs, only_ours = pair(out_type='featmap')
    assert not only_ours
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    maps = ours(images)
    assert isinstance(maps, tuple)
    assert [m.shape for m in maps] == [
        (2, channels, size[0] // stride, size[1] // stride)
        for channels, stride in zip((8, 16, 24, 32), (4, 8, 16, 32), strict=True)
    ]
    for found, expected in zip(maps, theirs(images), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)

    # The parity can fail: with two blocks exchanged it does.
    blocks = ours.stages[3].blocks
    blocks[0], blocks[1] = blocks[1], blocks[0]
    assert (ours(images)[3] - maps[3]).abs().max() > 1e-2


@pytest.mark.parametrize('size', [(64, 64), (96, 160)])
def test_class_token_enters_stage_4(size, pair):
    """Stages 1 to 3 are mmdet's; stage 4 is put together of its layers, the class token in front."""
    ours, theirs, only_ours = pair()
    assert only_ours == {'cls_token', 'norm.weight', 'norm.bias'}
    images = torch.randn(2, 3, *size, dtype=torch.float64)

    patch_embed, (pos_embed, *layers), _ = theirs.layers[3]
    tokens, hw_shape = patch_embed(theirs(images)[2])
    cls_token = ours.cls_token + ours.stages[3].pos_embed[:, :1]
    tokens = torch.cat([cls_token.expand(2, -1, -1), pos_embed(tokens, hw_shape)], 1)
    for layer in layers:
        tokens = layer(tokens, (1, tokens.size(1)))  # 1 x 1 convolutions: any arrangement will do
    expected = torch.nn.functional.layer_norm(tokens[:, 0], (32,), ours.norm.weight, ours.norm.bias, 1e-6)

    (feature,) = ours(images)
    torch.testing.assert_close(feature, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('size', [(64, 64), (96, 160)])
def test_raw_is_all_tokens_of_the_last_stage(size, pvt_cfg, redraw):
    """Class token first, all through the final norm."""
    backbone = redraw(MODELS.build(pvt_cfg(out_type='raw')))
    images = torch.randn(2, 3, *size)
    stages = []
    backbone.stages[-1].register_forward_hook(lambda _, args, out: stages.append(out))
    (tokens,) = backbone.eval()(images)
    ((featmap, _),) = stages
    torch.testing.assert_close(tokens[:, 1:], backbone.norm(featmap.flatten(2).transpose(1, 2)))
    plain = MODELS.build(pvt_cfg())
    plain.load_state_dict(backbone.state_dict())
    torch.testing.assert_close(tokens[:, 0], plain.eval()(images)[0])
    with pytest.raises(ValueError, match=r"out_type='cls_token'.*'raw'"):
        class_attention_of(backbone)


def test_strides_of_the_real_archs():
    cfg = dict(type='PVT', arch='tiny', out_type='featmap', out_indices=(1, 3))
    maps = MODELS.build(cfg)(torch.randn(1, 3, 64, 96))
    assert [m.shape for m in maps] == [(1, 128, 8, 12), (1, 512, 2, 3)]


def test_published_archs():
    for name, depths in dict(t=[2, 2, 2, 2], s=[3, 4, 6, 3], m=[3, 4, 18, 3], l=[3, 8, 27, 3]).items():
        settings = PVT.arch_zoo[name]
        assert settings['num_layers'] == depths
        assert settings['embed_dims'] == [64, 128, 320, 512]
        assert settings['num_heads'] == [1, 2, 5, 8]
        assert settings['mlp_ratios'] == [8, 8, 4, 4]
        assert settings['sr_ratios'] == [8, 4, 2, 1]


def test_drop_path_rises_linearly(pvt_cfg):
    """Plain floats: numpy's would break torch.compile's graph."""
    backbone = MODELS.build(pvt_cfg(drop_path_rate=0.4))
    blocks = [block for stage in backbone.stages for block in stage.blocks]
    for part in ('drop_path', 'ffn.dropout_layer'):
        rates = [block.get_submodule(part).drop_prob for block in blocks]
        assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
        assert {type(rate) for rate in rates} == {float}


def test_initialisation(pvt_cfg):
    arch = dict(PVT.arch_zoo['tiny'], num_layers=[1, 1, 1, 1])
    backbone = MODELS.build(pvt_cfg(arch=arch))
    backbone.init_weights()
    for module in backbone.modules():
        if isinstance(module, torch.nn.Linear):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.1)
            assert not module.bias.any()
        if isinstance(module, torch.nn.LayerNorm):
            assert module.eps == 1e-6
            assert (module.weight == 1).all()
            assert not module.bias.any()
    for param in (backbone.cls_token, *(stage.pos_embed for stage in backbone.stages)):
        assert param.std().item() == pytest.approx(0.02, rel=0.2)


@pytest.mark.parametrize('frozen', [-1, 0, 1, 3, 4])
def test_frozen_stages(frozen, pvt_cfg):
    backbone = MODELS.build(pvt_cfg(frozen_stages=frozen, out_type='featmap'))
    backbone.train()
    for i, stage in enumerate(backbone.stages):
        assert all(module.training is (i >= frozen) for module in stage.modules())
        assert all(param.requires_grad is (i >= frozen) for param in stage.parameters())
    if frozen < 4:
        backbone(torch.randn(1, 3, 64, 64))[-1].sum().backward()
    backbone.eval()
    assert not any(module.training for module in backbone.modules())


def test_train_returns_the_model(pvt_cfg):
    backbone = MODELS.build(pvt_cfg())
    assert backbone.train() is backbone
    assert backbone.eval() is backbone


@pytest.mark.parametrize('prefix', ['', 'backbone.'])
@pytest.mark.parametrize('out_type', ['cls_token', 'featmap'])
def test_layer_depth_rises_towards_the_head(out_type, prefix, pvt_cfg):
    backbone = MODELS.build(pvt_cfg(out_type=out_type))
    num_blocks = sum(len(stage.blocks) for stage in backbone.stages)
    seen = []
    for i, stage in enumerate(backbone.stages):
        for part in ('patch_embed', 'pos_embed', *(f'blocks.{j}' for j in range(len(stage.blocks)))):
            names = [name for name, _ in backbone.named_parameters() if name.startswith(f'stages.{i}.{part}')]
            (depth,) = {backbone.get_layer_depth(prefix + name, prefix) for name in names}
            seen.append(depth)
    if out_type == 'cls_token':
        seen.append(backbone.get_layer_depth(prefix + 'norm.weight', prefix))
    if prefix:
        seen.append(backbone.get_layer_depth('head.fc.weight', prefix))
    depths = [depth for depth, _ in seen]
    assert {total for _, total in seen} == {num_blocks + 2}
    assert depths == sorted(depths)
    assert depths[0] == 0
    assert depths[-1] == num_blocks + (1 if out_type == 'cls_token' or prefix else 0)


@pytest.mark.parametrize(
    ('kwargs', 'named'),
    [
        (dict(arch='huge'), "arch.*small.*'huge'"),
        (dict(arch=dict(embed_dims=[8, 16, 24, 32])), 'num_layers'),
        (dict(out_type='avg'), "out_type.*featmap.*'avg'"),
        (dict(img_size=72), 'img_size=72.*32'),
        (dict(img_size=(64, 70)), 'img_size.*32'),
    ],
)
def test_arguments_out_of_range_are_named(kwargs, named, pvt_cfg):
    with pytest.raises(ValueError, match=named):
        MODELS.build(pvt_cfg(**kwargs))


def test_unknown_argument_is_named(pvt_cfg):
    with pytest.raises(TypeError, match=r'PVT.*final_norm'):
        MODELS.build(pvt_cfg(final_norm=True))
