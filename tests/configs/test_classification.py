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
from oracles.table_1 import TABLE_1

import mmmixpro  # noqa: F401
from mmmixpro.mixing import BatchMixer
from mmmixpro.utils.complexity import OnMeta

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
# The methods of Table 1 serve all of its models; the others those that they were published for.
ALL_MODELS = ('baseline', 'cutmix', 'transmix', 'mixpro')
FEW_MODELS = ('deit-t', 'deit-s', 'deit-b', 'pvt-t', 'pvt-s', 'pvt-m', 'pvt-l')
LEAVES = sorted(path for method in METHODS for path in (CONFIGS / method).glob('*.py'))
ABLATION = sorted((CONFIGS / 'ablation').glob('*.py'))
DEMO = sorted(path for path in (CONFIGS / 'demo').glob('*.py') if path.stem.startswith(('deit', 'pvt')))


# Of each backbone: what to shrink, the channels that the head is given, and the side of the images, which the
# windows of 7 tokens of CA-Swin hold at 224 px.
SHRUNK: dict[str, tuple[dict, int, int]] = dict(
    VisionTransformer=(dict(arch=dict(embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=48)), 24, 128),
    PVT=(
        dict(
            arch=dict(
                embed_dims=[8, 8, 16, 16],
                num_layers=[1, 1, 1, 1],
                num_heads=[1, 2, 2, 2],
                mlp_ratios=[2, 2, 2, 2],
                sr_ratios=[8, 4, 2, 1],
            )
        ),
        16,
        128,
    ),
    CaiT=(dict(arch=dict(embed_dims=24, num_layers=1, num_heads=2, feedforward_channels=48)), 24, 128),
    XCiT=(dict(embed_dims=24, depth=1, num_heads=2), 24, 128),
    CASwin=(dict(arch=dict(embed_dims=4, depths=[1, 1, 1, 2], num_heads=[1, 1, 2, 2])), 32, 224),
)


def shrink(cfg: Config) -> None:
    """Depth, width and image size, also of a teacher, whose weights are not at hand; nothing else."""
    backbone = cfg.model.backbone
    smaller, cfg.model.head.in_channels, side = SHRUNK[backbone.type]
    backbone.update(smaller, img_size=side // 16 * backbone.get('patch_size', 16))
    for augment in cfg.model.get('train_cfg', {}).get('augments', []):
        if 'teacher' in augment:
            teacher = augment.teacher
            teacher.pop('init_cfg')
            teacher.get('backbone', teacher).update(depth=18, stem_channels=8, base_channels=8)
            if 'head' in teacher:
                teacher.head.in_channels = 64


def batch(cfg: Config, num: int = 12) -> dict:
    # So many that drop path leaves each branch a sample.
    side = cfg.model.backbone.img_size
    return dict(
        inputs=torch.randint(0, 256, (num, 3, side, side), dtype=torch.uint8),
        data_samples=[DataSample(content=np.ones((14, 14), np.float16)).set_gt_label(i % 10) for i in range(num)],
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
    cfg.optim_wrapper.optimizer.lr = 10.0  # so that no step is lost to rounding behind a LayerScale of 1e-5
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


@pytest.mark.slow
@pytest.mark.parametrize('model', ['deit-t', 'pvt-t', 'cait-xxs24', 'xcit-t24', 'ca-swin-t'])
def test_full_size_step(model):
    cfg = Config.fromfile(CONFIGS / f'mixpro/{model}_8xb128_in1k.py')
    cfg.model.train_cfg = dict(augments=[cfg.model.train_cfg.augments[0]], probs=[1.0])
    assert torch.isfinite(torch.as_tensor(step(cfg)['loss']))


def test_all_models_have_all_methods():
    expected = {f'{method}/{model}_8xb128_in1k' for method in METHODS for model in FEW_MODELS}
    expected |= {f'{method}/{model}_8xb128_in1k' for method in ALL_MODELS for model in TABLE_1}
    expected |= {f'smmix/{model}_8xb128_in1k' for model in ('cait-xxs24', 'cait-xxs36')}
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
    assert cfg.param_scheduler[0].end == 20
    drop_path_rate, epochs, shorter_side = TABLE_1[model_of(path)][2:]
    assert (cfg.model.backbone.drop_path_rate, cfg.train_cfg.max_epochs) == (drop_path_rate, epochs)
    for split in ('val', 'test'):
        resize, crop = cfg[f'{split}_dataloader'].dataset.pipeline[1:3]
        assert (resize.type, resize.scale, crop.crop_size) == ('ResizeEdge', shorter_side, 224)
    assert cfg.data_preprocessor.num_classes == cfg.model.head.num_classes == 1000


def model_of(path: Path) -> str:
    return re.search(r'(deit|pvt|cait|xcit|ca-swin)-[a-z0-9]+', path.stem)[0]


@pytest.mark.parametrize('path', LEAVES + ABLATION, ids=lambda path: f'{path.parent.name}/{path.stem}')
def test_leaf_has_the_published_size(path):
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    model = cfg.model
    with OnMeta():
        parts = [MODELS.build(part) for part in (model.backbone, model.head)]
    params = [param for part in parts for param in part.parameters()]
    assert all(param.is_meta for param in params)
    assert sum(param.numel() for param in params) / 1e6 == pytest.approx(TABLE_1[model_of(path)][0], rel=0.01)


@pytest.mark.parametrize('model', ['deit-t', 'pvt-t', 'cait-xxs24', 'xcit-t24', 'ca-swin-t'])
def test_what_decays(model):
    """Matrices and kernels, but no embeddings, scales or biases; of DeiT, timm's rule, by exact names."""
    cfg = Config.fromfile(CONFIGS / f'mixpro/{model}_8xb128_in1k.py')
    shrink(cfg)
    init_default_scope(cfg.default_scope)
    classifier = MODELS.build(cfg.model)
    groups = build_optim_wrapper(classifier, cfg.optim_wrapper).optimizer.param_groups
    decay = {id(param): group['weight_decay'] for group in groups for param in group['params']}
    without = ('cls_token', 'pos_embed', 'relative_position_bias_table')
    for name, param in classifier.named_parameters():
        expected = 0.0 if param.ndim == 1 or name.split('.')[-1] in without else 0.05
        assert decay[id(param)] == expected, name


def test_models_are_listed_once_each():
    """A row of the README for each model of Table 1, with what its configs say; none was trained."""
    lines = (CONFIGS / 'README.md').read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines if '_8xb128_in1k` |' in line]
    assert [row[1] for row in rows] == [f'`{model}_8xb128_in1k`' for model in TABLE_1]
    for row, (params, flops, drop_path_rate, epochs, shorter_side) in zip(rows, TABLE_1.values(), strict=True):
        assert float(row[2]) == pytest.approx(params, rel=0.005)
        assert float(row[3]) == pytest.approx(flops, rel=0.03, abs=0.05)
        assert float(row[4].split(',')[0]) == drop_path_rate
        assert (int(row[5]), float(row[6])) == (epochs, 224 / shorter_side)
        assert re.fullmatch(r'not in the paper|\d\d\.\d / \d\d\.\d / \d\d\.\d', row[8]) and row[9] == 'no'


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
