# Copyright (c) MMMixPro contributors.
"""Strict loading: all or nothing, and the error says what differs."""

import logging
import re
from datetime import timedelta

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.model import BaseModule
from mmengine.model.weight_init import PretrainedInit
from mmengine.registry import WEIGHT_INITIALIZERS
from mmpretrain.registry import MODELS
from torch import distributed, multiprocessing, nn

import mmmixpro  # noqa: F401

PREFIX = 'backbone.'


def vit_cfg(embed_dims=8, num_layers=2, img_size=32, **kwargs):
    arch = dict(embed_dims=embed_dims, num_layers=num_layers, num_heads=2, feedforward_channels=16)
    return dict(type='VisionTransformer', arch=arch, img_size=img_size, patch_size=8, **kwargs)


def pvt_cfg(**kwargs):
    arch = dict(
        embed_dims=[8, 8, 8, 8],
        num_layers=[1, 1, 1, 1],
        num_heads=[1, 1, 1, 1],
        mlp_ratios=[1, 1, 1, 1],
        sr_ratios=[8, 4, 2, 1],
    )
    return dict(type='PVT', arch=arch, img_size=64, **kwargs)


PVT_EXCEPTIONS = ['cls_token', 'norm.*']

RESHAPES = dict(
    flat=lambda x: x.flatten() if x.ndim > 1 else x[None],
    fewer_channels=lambda x: x[..., :-1],
    more_channels=lambda x: torch.cat([x, x], dim=-1),
    no_channels=lambda x: x[..., :0],
    empty=lambda x: x[:0],
    twice=lambda x: torch.cat([x, x]),
    without_end=lambda x: x[:, :-1] if x.ndim > 1 else x[:-1],
    without_start=lambda x: x[:, 1:] if x.ndim > 1 else x[1:],
    axis=lambda x: x[None],
    scalar=lambda x: x.sum(),
    text=lambda x: 'text',
)
OTHERS = {
    'wider': (vit_cfg(embed_dims=8), vit_cfg(embed_dims=16)),
    'deeper': (vit_cfg(num_layers=2), vit_cfg(num_layers=3)),
    'shallower': (vit_cfg(num_layers=3), vit_cfg(num_layers=2)),
    'PVT to ViT': (pvt_cfg(), vit_cfg()),
    'ViT to PVT': (vit_cfg(), pvt_cfg()),
    'dense to classifier': (pvt_cfg(out_type='featmap'), pvt_cfg()),
    'final norm lacks': (vit_cfg(final_norm=False), vit_cfg()),
    'final norm unused': (vit_cfg(), vit_cfg(final_norm=False)),
    'class token lacks': (vit_cfg(out_type='featmap', with_cls_token=False), vit_cfg()),
    'class token unused': (vit_cfg(), vit_cfg(out_type='featmap', with_cls_token=False)),
}


@pytest.fixture
def weights(redraw):
    """What a backbone would have in a classifier's checkpoint."""

    def weights(cfg):
        module = redraw(MODELS.build(cfg))
        return {PREFIX + key: value.clone() for key, value in module.state_dict().items()}

    return weights


@pytest.fixture
def save(tmp_path):
    def save(weights):
        path = tmp_path / 'checkpoint.pth'
        torch.save(dict(state_dict={**weights, 'head.fc.weight': torch.ones(2, 8)}), path)
        return str(path)

    return save


def load(cfg, path, **init_cfg):
    """Load as a run does."""
    defaults = dict(type='Pretrained', checkpoint=path, prefix=PREFIX, strict=True)
    module = MODELS.build({**cfg, 'init_cfg': {**defaults, **init_cfg}})
    module.init_weights()
    return module


@pytest.fixture
def log():
    """Messages of the current logger."""
    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield messages
    logger.removeHandler(handler)


def same(module, weights):
    state = module.state_dict()
    return state.keys() == weights.keys() and all(torch.equal(state[key], weights[key]) for key in state)


def report(log):
    (line,) = [message for message in log if message.startswith('Loaded ')]
    return line


def test_every_tensor_is_loaded(weights, save, log):
    stored = weights(vit_cfg())
    path = save(stored)
    module = load(vit_cfg(), path)
    state = module.state_dict()
    assert state.keys() == {key.removeprefix(PREFIX) for key in stored}
    assert all(torch.equal(state[key.removeprefix(PREFIX)], stored[key]) for key in stored)
    assert f'{len(stored)} of {len(stored)} tensors matched; resized: none' in report(log)
    # mmengine's own report on where each tensor comes from.
    assert sum(f'load from {path}' in message for message in log) == len(stored)
    # None of the hooks that did it is left behind.
    hooks = [len(m._load_state_dict_pre_hooks) for m in module.modules()]
    assert hooks == [len(m._load_state_dict_pre_hooks) for m in MODELS.build(vit_cfg()).modules()]


def test_position_embedding_is_resized_by_the_module(weights, save, log):
    stored = weights(vit_cfg())
    module = load(vit_cfg(img_size=48), save(stored))
    assert module.pos_embed.shape == (1, 1 + 36, 8)
    assert torch.equal(module.pos_embed[:, :1], stored[PREFIX + 'pos_embed'][:, :1])
    assert 'resized: pos_embed (1, 17, 8) -> (1, 37, 8)' in report(log)
    untouched = MODELS.build(vit_cfg(img_size=48))
    untouched.load_state_dict({key.removeprefix(PREFIX): v for key, v in stored.items()})
    assert torch.equal(module.pos_embed, untouched.pos_embed)


@pytest.mark.parametrize(
    ('cfg', 'exceptions'),
    [(vit_cfg(), []), (vit_cfg(img_size=48), []), (pvt_cfg(out_type='featmap'), PVT_EXCEPTIONS)],
    ids=['ViT', 'ViT resized', 'PVT'],
)
class TestOneTensor:
    """Each tensor in turn: whichever is missing, renamed or of another shape, it is named."""

    @pytest.fixture
    def stored(self, weights, cfg, exceptions):
        trained = {**cfg, 'img_size': {'VisionTransformer': 32, 'PVT': 64}[cfg['type']]}
        return weights({**trained, 'out_type': 'cls_token'})

    @pytest.fixture
    def keys(self, stored, exceptions):
        dropped = tuple(PREFIX + pattern.removesuffix('*') for pattern in exceptions)
        # The stages of a PVT are alike, but for their positions.
        repeated = tuple(f'{PREFIX}stages.{i}.{part}' for i in (1, 2, 3) for part in ('patch', 'blocks'))
        return [key for key in stored if not key.startswith(dropped + repeated)]

    @pytest.fixture
    def refuse(self, cfg, exceptions, save):
        module = MODELS.build(cfg)
        untouched = {key: value.clone() for key, value in module.state_dict().items()}

        def refuse(weights, match):
            path = save(weights)
            init_cfg = dict(type='Pretrained', checkpoint=path, prefix=PREFIX, strict=True)
            init = WEIGHT_INITIALIZERS.build({**init_cfg, 'allow_unexpected': exceptions})
            with pytest.raises(ValueError, match=match) as error:
                init(module)
            assert path in str(error.value)
            assert 'Give the checkpoint of the same model' in str(error.value)
            assert len(str(error.value)) < 2000
            assert same(module, untouched)

        return refuse

    def test_dropped(self, stored, keys, refuse):
        for key in keys:
            name = key.removeprefix(PREFIX)
            refuse(
                {k: v for k, v in stored.items() if k != key},
                rf'missing in the checkpoint \(1\): {name}\n',
            )

    def test_renamed(self, stored, keys, refuse):
        for key in keys:
            name = key.removeprefix(PREFIX)
            refuse(
                {f'{k}_' if k == key else k: v for k, v in stored.items()},
                rf'missing .* \(1\): {name}\n  unexpected in the checkpoint \(1\): {name}_\n',
            )

    def test_added(self, stored, refuse):
        refuse(
            {**stored, PREFIX + 'extra.weight': torch.ones(1)},
            r'unexpected in the checkpoint \(1\): extra\.weight\n',
        )

    @pytest.mark.parametrize('reshape', RESHAPES.values(), ids=RESHAPES)
    def test_reshaped(self, stored, keys, refuse, reshape):
        for key in keys:
            name = key.removeprefix(PREFIX)
            refuse({**stored, key: reshape(stored[key])}, rf'of (another shape|a shape they cannot use) \(1\): {name} ')


@pytest.mark.parametrize(('stored', 'cfg'), OTHERS.values(), ids=OTHERS)
def test_another_model(weights, save, stored, cfg):
    module = MODELS.build(cfg)
    untouched = {key: value.clone() for key, value in module.state_dict().items()}
    path = save(weights(stored))
    init = WEIGHT_INITIALIZERS.build(dict(type='Pretrained', checkpoint=path, prefix=PREFIX, strict=True))
    with pytest.raises(ValueError, match='(?s)Cannot load.*Give the checkpoint of the same model') as error:
        init(module)
    assert len(str(error.value)) < 2000
    # Nothing is left of the tensors that did fit.
    assert same(module, untouched)


def test_a_head_alone(save):
    path = save({})
    with pytest.raises(ValueError, match=r"begins with 'backbone\.'.*head\.fc\.weight.* Set `prefix`"):
        load(vit_cfg(), path)
    with pytest.raises(ValueError, match=r'0 of \d+ tensors match.*\n  missing.*\n  unexpected .*: head\.fc\.weight\n'):
        load(vit_cfg(), path, prefix=None)


def test_long_lists_are_cut(weights, save):
    with pytest.raises(ValueError, match=r'another shape \(28\): .* and 18 more\n'):
        load(vit_cfg(embed_dims=16), save(weights(vit_cfg())))


def test_exceptions_are_declared_and_logged(weights, save, log):
    stored = weights(pvt_cfg())
    dense = pvt_cfg(out_type='featmap')
    with pytest.raises(ValueError, match=r'unexpected .* \(3\): cls_token, norm.bias, norm.weight\n'):
        load(dense, save(stored))
    module = load(dense, save(stored), allow_unexpected=PVT_EXCEPTIONS)
    assert 'unexpected, as declared: cls_token, norm.bias, norm.weight.' in report(log)
    # The class position goes with the class token, and that is told, too.
    assert 'resized: stages.3.pos_embed (1, 5, 8) -> (1, 4, 8)' in report(log)
    position = stored[PREFIX + 'stages.3.pos_embed'][:, 1:]
    assert torch.equal(module.stages[3].pos_embed, position)

    log.clear()
    del stored[PREFIX + 'stages.0.patch_embed.norm.bias']
    exceptions = dict(allow_unexpected=PVT_EXCEPTIONS, allow_missing=['stages.?.patch_embed.*'])
    load(dense, save(stored), **exceptions)
    assert 'missing, as declared: stages.0.patch_embed.norm.bias;' in report(log)


def test_a_declared_name_is_no_licence_for_a_shape(weights, save):
    stored = weights(vit_cfg())
    stored[PREFIX + 'cls_token'] = torch.ones(1, 1, 9)
    with pytest.raises(ValueError, match=r'another shape \(1\): cls_token'):
        load(vit_cfg(), save(stored), allow_missing=['cls_token'], allow_unexpected=['cls_token'])


class Interpolating(BaseModule):
    """Its load hook makes anything fit, channels too."""

    def __init__(self, init_cfg):
        super().__init__(init_cfg)
        self.embed = nn.Parameter(torch.zeros(1, 4, 6))
        self._register_load_state_dict_pre_hook(self._prepare)

    def _prepare(self, state_dict, prefix, *args):
        embed = state_dict[prefix + 'embed']
        state_dict[prefix + 'embed'] = embed.new_zeros(self.embed.shape) + embed.mean()


@pytest.mark.parametrize(('shape', 'fits'), [((1, 9, 6), True), ((1, 4, 7), False), ((4, 6), False)])
def test_hooks_may_resize_the_grid_only(save, shape, fits):
    path = save({'backbone.embed': torch.ones(shape)})
    module = Interpolating(dict(type='Pretrained', checkpoint=path, prefix=PREFIX, strict=True))
    if fits:
        module.init_weights()
        assert torch.equal(module.embed, torch.ones(1, 4, 6))
    else:
        with pytest.raises(ValueError, match=r'another shape \(1\): embed'):
            module.init_weights()


def test_without_strict_it_is_the_stock_one(weights, save):
    stored = weights(vit_cfg())
    del stored[PREFIX + 'cls_token']
    path = save({**stored, PREFIX + 'extra': torch.ones(1)})
    ours = load(vit_cfg(), path, strict=False)
    torch.manual_seed(1)
    stock = MODELS.build(vit_cfg())
    PretrainedInit(path, PREFIX)(stock)
    assert all(
        torch.equal(ours.state_dict()[key], value) for key, value in stock.state_dict().items() if key != 'cls_token'
    )
    with pytest.raises(AssertionError, match='not in the pretrained model'):
        load(vit_cfg(), path, strict=False, prefix='neck.')


def test_bad_arguments():
    build = WEIGHT_INITIALIZERS.build
    with pytest.raises(ValueError, match='needs strict=True'):
        build(dict(type='Pretrained', checkpoint='x', allow_missing=['a']))
    with pytest.raises(TypeError, match=r"must be a list of patterns, got the string 'a'"):
        build(dict(type='Pretrained', checkpoint='x', strict=True, allow_unexpected='a'))
    with pytest.raises(TypeError, match='allow_mising'):
        build(dict(type='Pretrained', checkpoint='x', strict=True, allow_mising=['a']))


def run_rank(rank, folder, cases):
    distributed.init_process_group(
        'gloo',
        init_method=f'file://{folder}/group',
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=60),
    )
    outcomes = {}
    for name, paths in cases.items():
        try:
            load(vit_cfg(), paths[rank])
            outcomes[name] = 'loaded'
        except Exception as error:
            outcomes[name] = f'{type(error).__name__}: {error}'
    torch.save(outcomes, f'{folder}/rank{rank}.pt')
    # All of them are past the group's last collective, or this one would hang or fail.
    distributed.barrier()
    distributed.destroy_process_group()


def test_all_ranks_refuse(weights, tmp_path):
    stored = weights(vit_cfg())
    short = {k: v for k, v in stored.items() if k != PREFIX + 'cls_token'}
    for name, content in dict(good=stored, short=short, code=nn.Linear(1, 1)).items():
        torch.save(content, tmp_path / f'{name}.pth')
    good, short, code, none = (str(tmp_path / f'{n}.pth') for n in ('good', 'short', 'code', 'no'))
    cases = dict(
        good=(good, good),
        short=(short, short),
        code=(code, code),
        none=(none, none),
        only_0=(short, good),
        only_1=(good, none),
        good_again=(good, good),
    )
    multiprocessing.start_processes(run_rank, (str(tmp_path), cases), 2, start_method='fork')
    ranks = [torch.load(tmp_path / f'rank{rank}.pt') for rank in range(2)]
    assert [r['good'] for r in ranks] == [r['good_again'] for r in ranks] == ['loaded'] * 2
    for name, expected in dict(
        short='ValueError: Cannot load .*cls_token',
        code='ValueError: .*carries code',
        none='FileNotFoundError: No checkpoint',
    ).items():
        assert ranks[0][name] == ranks[1][name]
        assert re.match(expected, ranks[0][name], re.DOTALL)
    assert ranks[0]['only_0'].startswith('ValueError: Cannot load')
    assert re.match('ValueError: No rank .* rank 0 failed: Cannot load', ranks[1]['only_0'])
    assert re.match('ValueError: No rank .* rank 1 failed: No checkpoint', ranks[0]['only_1'])
    assert ranks[1]['only_1'].startswith('FileNotFoundError')
