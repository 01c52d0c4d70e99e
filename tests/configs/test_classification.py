# Copyright (c) MMMixPro contributors.
"""Every classification config loads, builds and takes an optimizer step."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

import mmmixpro  # noqa: F401
from mmmixpro.mixing import BatchMixer

CONFIGS = Path(__file__).parents[2] / 'configs'
METHODS = dict(
    baseline='ImageClassifier',
    cutmix='ImageClassifier',
    gridmix='MixClassifier',
    saliencymix='MixClassifier',
    attentive_cutmix='MixClassifier',
    puzzlemix='MixClassifier',
    tokenmix='MixClassifier',
    transmix='MixClassifier',
    mixpro='PALClassifier',
    smmix='SMMixClassifier',
)
MODELS_8XB128 = ('deit-t', 'deit-s', 'deit-b', 'pvt-t', 'pvt-s', 'pvt-m', 'pvt-l')
LEAVES = sorted(path for method in METHODS for path in (CONFIGS / method).glob('*.py'))
ABLATION = sorted((CONFIGS / 'ablation').glob('*.py'))
DEMO = sorted(path for path in (CONFIGS / 'demo').glob('*.py') if path.stem.startswith(('deit', 'pvt')))


def shrink(cfg: Config) -> None:
    """Depth, width, image size and drop path, also of a teacher, whose weights are not at hand; nothing else."""
    backbone, head = cfg.model.backbone, cfg.model.head
    backbone.drop_path_rate = 0.0  # of one block and four samples it may leave nothing to learn from
    if backbone.type == 'VisionTransformer':
        backbone.arch = dict(embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=48)
        head.in_channels = 24
        backbone.img_size = 8 * backbone.patch_size
    else:
        backbone.arch = dict(
            embed_dims=[8, 8, 16, 16],
            num_layers=[1, 1, 1, 1],
            num_heads=[1, 2, 2, 2],
            mlp_ratios=[2, 2, 2, 2],
            sr_ratios=[8, 4, 2, 1],
        )
        head.in_channels = 16
        backbone.img_size = 128
    for augment in cfg.model.get('train_cfg', {}).get('augments', []):
        if 'teacher' in augment:
            teacher = augment.teacher
            teacher.pop('init_cfg')
            teacher.get('backbone', teacher).update(depth=18, stem_channels=8, base_channels=8)
            if 'head' in teacher:
                teacher.head.in_channels = 64


def batch(cfg: Config, num: int = 4) -> dict:
    side = cfg.model.backbone.img_size
    return dict(
        inputs=torch.randint(0, 256, (num, 3, side, side), dtype=torch.uint8),
        data_samples=[DataSample(content=np.ones((14, 14), np.float16)).set_gt_label(i) for i in range(num)],
    )


def model_augment(model: torch.nn.Module) -> object:
    return model.augment.augments[0] if hasattr(model, 'augment') else None


def step(cfg: Config) -> dict:
    init_default_scope(cfg.default_scope)
    cfg.model.data_preprocessor = cfg.data_preprocessor
    model = MODELS.build(cfg.model)
    model.init_weights()
    # Heads start at zero, and a zero head sends no gradient into the backbone.
    torch.nn.init.normal_(next(iter(model.head.parameters())), std=0.1)
    hub = MessageHub.get_current_instance()
    hub.update_info_dict(dict(iter=1, max_iters=4))  # as a runner does, for labels that follow it
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    before = {name: param.clone() for name, param in model.named_parameters()}
    log = model.train_step(batch(cfg), optim_wrapper)
    frozen = [name for name, param in model.named_parameters() if torch.equal(param, before[name])]
    if cfg.model.type == 'SMMixClassifier' and cfg.model.train_cfg.augments[0].type != 'SMMix':
        # The token head learns from SMMix's batches alone.
        frozen = [name for name in frozen if not name.startswith('token_head.')]
    if not isinstance(model_augment(model), BatchMixer):
        # Learnable labels learn from the batches that they label.
        frozen = [name for name in frozen if not name.startswith('labels.')]
    assert not frozen, f'no step for {frozen}'
    return log


def test_all_models_have_all_methods():
    expected = {f'{method}/{model}_8xb128_in1k' for method in METHODS for model in MODELS_8XB128}
    assert expected <= {f'{path.parent.name}/{path.stem}' for path in LEAVES}


@pytest.mark.parametrize('path', LEAVES + ABLATION + DEMO, ids=lambda path: f'{path.parent.name}/{path.stem}')
def test_config_takes_a_step(path):
    cfg = Config.fromfile(path)
    shrink(cfg)
    augments = cfg.model.get('train_cfg', None) and cfg.model.train_cfg.augments
    for index in range(len(augments or [None])):
        # Each augment in turn, for a step draws one of them.
        one = Config(cfg.to_dict())
        if augments:
            one.model.train_cfg = dict(augments=[augments[index]], probs=[1.0])
        assert torch.isfinite(torch.as_tensor(step(one)['loss']))


@pytest.mark.parametrize('path', LEAVES + ABLATION, ids=lambda path: f'{path.parent.name}/{path.stem}')
def test_leaf_is_the_papers_recipe(path):
    cfg = Config.fromfile(path)
    if path in LEAVES:
        assert cfg.model.type == ('TokenMixClassifier' if 'precomputed' in path.stem else METHODS[path.parent.name])
    assert cfg.train_dataloader.batch_size * 8 == cfg.auto_scale_lr.base_batch_size == 1024
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', 1e-3, 0.05)
    assert cfg.optim_wrapper.clip_grad.max_norm == 5.0
    assert (cfg.train_cfg.max_epochs, cfg.param_scheduler[0].end) == (300, 20)
    assert cfg.data_preprocessor.num_classes == cfg.model.head.num_classes == 1000


def test_ablations_are_listed_once_each():
    """A row of the README for each file, with the paper's number; none was trained."""
    lines = (CONFIGS / 'ablation/README.md').read_text().splitlines()
    rows = [line.strip('|').split('|') for line in lines if '](' in line and line.startswith('|')]
    assert sorted(re.findall(r'\]\((.*)\)', row[1])[0] for row in rows) == [path.name for path in ABLATION]
    assert all(re.match(r' (\d\d\.\d|a curve) ', row[2] + ' ') and row[3] == ' not trained here ' for row in rows)


def test_ablations_differ():
    """Each in what it is called after; those that repeat another table's row say which by their base alone."""
    repeated = {path.name for path in ABLATION if len(path.read_text().splitlines()) == 1}
    models = [Config.fromfile(path).model.to_dict() for path in ABLATION if path.name not in repeated]
    # fig. 5 (a), 1x and table 8, C are of other models; the rest are unique.
    assert all(first != second for first, second in itertools.combinations(models, 2))


def test_building_twice_leaves_the_config_alone():
    cfg = Config.fromfile(CONFIGS / 'mixpro/deit-t_8xb128_in1k.py')
    shrink(cfg)
    init_default_scope('mmpretrain')
    before = cfg.model.to_dict()
    first, second = MODELS.build(cfg.model), MODELS.build(cfg.model)
    assert cfg.model.to_dict() == before
    assert first.augment.probs == second.augment.probs == [0.5, 0.25, 0.25, 0.0]
    assert isinstance(first.augment.augments[0], BatchMixer)


def test_official_preset_needs_patches_of_14():
    cfg = Config.fromfile(CONFIGS / 'mixpro/deit-s_official_8xb128_in1k.py')
    assert cfg.model.backbone.patch_size == 14
    assert cfg.model.head.loss.to_dict() == dict(type='CrossEntropyLoss', use_soft=True)
    shrink(cfg)
    cfg.model.backbone = Config.fromfile(CONFIGS / 'mixpro/pvt-t_8xb128_in1k.py').model.backbone
    init_default_scope('mmpretrain')
    with pytest.raises(ValueError, match='mask_size=56 is not a multiple of the token stride of this backbone, 32 px'):
        MODELS.build(cfg.model)


@pytest.mark.parametrize('model', ['deit-s', 'pvt-s'])
def test_fast_variant_changes_speed_only(model):
    """Precision, compilation, layout, logging and data loading; the recipe stays."""
    plain, fast = (Config.fromfile(CONFIGS / f'mixpro/{model}{kind}_8xb128_in1k.py') for kind in ('', '_fast'))
    assert fast.model.to_dict() == plain.model.to_dict()
    assert fast.param_scheduler == plain.param_scheduler
    assert fast.train_cfg.to_dict() == plain.train_cfg.to_dict()
    assert fast.randomness.to_dict() == plain.randomness.to_dict()
    optim_wrapper = fast.optim_wrapper.to_dict()
    assert (optim_wrapper.pop('type'), optim_wrapper.pop('dtype')) == ('AsyncOptimWrapper', 'bfloat16')
    assert optim_wrapper.pop('constructor') == 'MergedOptimWrapperConstructor'
    assert optim_wrapper['optimizer'].pop('fused')
    assert optim_wrapper == plain.optim_wrapper.to_dict()
    hooks = fast.default_hooks.to_dict()
    assert hooks.pop('runtime_info') == dict(type='DeferredRuntimeInfoHook')
    assert hooks.pop('compile') == dict(type='CompileHook')
    assert hooks == plain.default_hooks.to_dict()
    assert fast.data_preprocessor.pop('channels_last')
    assert fast.data_preprocessor.to_dict() == plain.data_preprocessor.to_dict()


def test_precomputed_variant_changes_where_maps_come_from():
    plain, ours = (Config.fromfile(CONFIGS / f'tokenmix/deit-s{kind}_8xb128_in1k.py') for kind in ('', '_precomputed'))
    model, expected = ours.model.to_dict(), plain.model.to_dict()
    assert (model.pop('type'), expected.pop('type')) == ('TokenMixClassifier', 'MixClassifier')
    expected['train_cfg']['augments'][0].pop('teacher')
    assert model == expected
    assert ours.data_preprocessor.pop('type') == 'ContentDataPreprocessor'
    assert ours.data_preprocessor.to_dict() == plain.data_preprocessor.to_dict()
    pipeline, stock = ours.train_dataloader.dataset.pop('pipeline'), plain.train_dataloader.dataset.pop('pipeline')
    assert pipeline.pop(-2).type == 'LoadContentMap'
    assert pipeline[1].pop('type') == 'Tracked' + stock[1].pop('type')
    assert pipeline[-1].pop('algorithm_keys') == ['content']
    assert [step.to_dict() for step in pipeline] == [step.to_dict() for step in stock]
    assert ours.train_dataloader.to_dict() == plain.train_dataloader.to_dict()


@pytest.mark.parametrize('name', ['ablation/table7_block_deit-t', 'ablation/table7_block_deit-s'])
def test_block_masks_alone(name):
    cfg = Config.fromfile(CONFIGS / f'{name}_8xb128_in1k.py')
    shrink(cfg)
    cfg.model.train_cfg = dict(augments=cfg.model.train_cfg.augments[:1], probs=[1.0])
    assert cfg.model.train_cfg.augments[0].to_dict() == dict(type='TokenMix', mask_size=16, min_block_tokens=14)
    assert 'labels' not in cfg.model and cfg.model.type == 'MixClassifier'
    assert torch.isfinite(torch.as_tensor(step(cfg)['loss']))


def test_random_masks():
    block, scattered = (
        Config.fromfile(CONFIGS / f'_base_/methods/tokenmix{kind}.py').method.to_dict() for kind in ('', '_random')
    )
    assert block['train_cfg']['augments'][0].pop('mask_type') == 'block'
    assert scattered['train_cfg']['augments'][0].pop('mask_type') == 'random'
    assert scattered == block
