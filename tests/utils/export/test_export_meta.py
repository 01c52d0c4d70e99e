# Copyright (c) MMMixPro contributors.
"""What exported files say of themselves: what is true, and no more."""

import importlib.util
import json

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmmixpro.apis import find_config
from mmmixpro.utils.export import export
from mmmixpro.utils.weights import read_checkpoint

COMMIT = '0123456789abcdef' * 2 + '01234567'
DEIT = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
PVT = dict(
    embed_dims=[8, 8, 16, 16],
    num_layers=[1, 1, 1, 1],
    num_heads=[1, 1, 1, 1],
    mlp_ratios=[1, 1, 1, 1],
    sr_ratios=[8, 4, 2, 1],
)
needs_ops = pytest.mark.skipif(importlib.util.find_spec('mmcv._ext') is None, reason="needs mmcv's compiled ops")
# As OpenMMLab's newer configs are written: classes in place of names.
OF_CLASSES = """
from mmengine.dataset import ConcatDataset
from mmpretrain.datasets import CUB, ImageNet
from mmpretrain.models import CutMix, Mixup, VisionTransformer
from mmmixpro.labels import AttentionLabels
from mmmixpro.models import MixClassifier

model = dict(
    type=MixClassifier,
    backbone=dict(type=VisionTransformer, arch={arch}, img_size=64, patch_size=16),
    labels=dict(type=AttentionLabels),
    train_cfg=dict(augments=[dict(type=CutMix, alpha=1.0), dict(type=Mixup, alpha=0.8)]))
train_dataloader = dict(
    dataset=dict(type=ConcatDataset, datasets=[dict(type=ImageNet, split='train'), dict(type=CUB)]))
"""


@pytest.fixture
def said_of(redraw, save, meta, tmp_path):
    """What is said of the backbone that a run of a config, a file, has saved."""

    def said_of(config, **run):
        cfg = Config.fromfile(config)
        with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmpretrain')):
            backbone = redraw(MODELS.build(cfg.model.backbone))
        weights = {f'backbone.{key}': value for key, value in backbone.state_dict().items()}
        target = str(tmp_path / 'x.pth')
        export(str(config), save(dict(state_dict=weights, meta={**meta, **run})), [target])
        return read_checkpoint(target)[1]

    return said_of


@pytest.mark.parametrize(
    ('name', 'arch', 'method', 'data'),
    [
        ('baseline/deit-t', DEIT, 'ImageClassifier', 'ImageNet train'),
        ('cutmix/deit-t', DEIT, 'ImageClassifier, Mixup 0.5, CutMix 0.5', 'ImageNet train'),
        (
            'transmix/deit-t',
            DEIT,
            'MixClassifier, AttentionLabels, TransMixBatchAugment 0.8, Mixup 0.2',
            'ImageNet train',
        ),
        (
            'segmentation/linear_deit-s_8xb2-80k_pascal-context-480x480',
            DEIT,
            'EncoderDecoder',
            'PascalContextDataset',
        ),
        pytest.param('detection/mask-rcnn_pvt-s_fpn_1x_coco', PVT, 'MaskRCNN', 'CocoDataset', marks=needs_ops),
    ],
)
def test_of_every_kind_of_config(name, arch, method, data, said_of, tmp_path):
    cfg = Config.fromfile(find_config(name))
    cfg.model.backbone.arch = arch
    config = tmp_path / 'small.py'
    cfg.dump(config)
    meta = said_of(config)
    assert (meta['method'], meta['data']) == (method, data)


def test_of_configs_of_classes(said_of, tmp_path):
    config = tmp_path / 'classes.py'
    config.write_text(OF_CLASSES.format(arch=DEIT))
    meta = said_of(config)
    assert meta['method'] == 'MixClassifier, AttentionLabels, CutMix 0.5, Mixup 0.5'
    assert meta['data'] == 'ImageNet train, CUB'


@pytest.mark.parametrize(
    ('augments', 'method'),
    [
        (dict(augments=dict(type='Mixup', alpha=0.8), probs=0.5), 'ImageClassifier, Mixup 0.5'),
        (dict(augments=dict(type='Mixup', alpha=0.8)), 'ImageClassifier, Mixup 1'),
        (dict(augments=[], probs=[]), 'ImageClassifier'),
    ],
)
def test_of_configs_that_leave_things_out(augments, method, said_of, vit_cfg, tmp_path):
    config = tmp_path / 'short.py'
    model = dict(type='ImageClassifier', backbone=vit_cfg(), train_cfg=augments)
    config.write_text(f"default_scope = 'mmpretrain'\nmodel = {model!r}")
    meta = said_of(config)
    assert meta['method'] == method
    assert 'data' not in meta


@pytest.mark.parametrize(
    ('version', 'known'),
    [
        ('0.10.7' + COMMIT, dict(trained_with='mmengine 0.10.7', commit_of_working_directory=COMMIT)),
        ('0.10.7unknown', dict(trained_with='mmengine 0.10.7')),  # where git is not installed
        ('0.10.7', dict(trained_with='mmengine 0.10.7')),  # outside of a repository
    ],
)
def test_versions(version, known, said_of, config):
    meta = said_of(config(), mmengine_version=version)
    assert {key: value for key, value in meta.items() if 'commit' in key or key == 'trained_with'} == known


@pytest.mark.parametrize(
    ('settings', 'found'),
    [
        ('default_hooks = dict(logger=dict(log_metric_by_epoch=False))', {'mIoU': 30.0}),
        # Logged by epoch, of which there is but one: nobody can tell which line it is.
        ('', None),
    ],
)
def test_accuracy_of_training_by_iterations(settings, found, said_of, vit_cfg, tmp_path):
    config = tmp_path / 'iterations.py'
    model = dict(type='ImageClassifier', backbone=vit_cfg())
    loop = "train_cfg = dict(type='IterBasedTrainLoop', max_iters=9)"
    config.write_text(f"default_scope = 'mmpretrain'\nmodel = {model!r}\n{loop}\n{settings}")
    log = tmp_path / 'run/20250101_000000/vis_data/scalars.json'
    log.parent.mkdir(parents=True)
    steps = [3, 6, 9] if settings else [0, 0, 0]
    log.write_text('\n'.join(json.dumps(dict(mIoU=10.0 * i, step=step)) for i, step in enumerate(steps, 2)))
    assert said_of(config, epoch=0, iter=6).get('accuracy') == found


def test_what_is_said_of_it(config, weights, meta, backbone_weights, save, tmp_path):
    source = save(dict(state_dict=weights, meta=meta))
    log = tmp_path / 'run/20250101_000000/vis_data/scalars.json'
    log.parent.mkdir(parents=True)
    lines = [
        dict(lr=0.1, loss=1.0, **{'accuracy/top1': 99.0}, step=3),
        {'accuracy/top1': 50.0, 'data_time': 0.1, 'time': 0.2, 'step': 2},
        {'accuracy/top1': 73.5, 'accuracy/top5': 91.0, 'data_time': 0.1, 'time': 0.2, 'step': 3},
        {'accuracy/top1': 75.0, 'accuracy/top5': 92.0, 'data_time': 0.1, 'time': 0.2, 'step': 4},
    ]
    log.write_text('\n'.join(map(json.dumps, lines)))
    # A later run in the same folder has not saved this checkpoint.
    later = tmp_path / 'run/20250102_000000/vis_data/scalars.json'
    later.parent.mkdir(parents=True)
    later.write_text(json.dumps({'accuracy/top1': 1.0, 'step': 3}))
    target = str(tmp_path / 'x.pth')
    export(config(), source, [target])
    said = read_checkpoint(target)[1]
    assert said.pop('exported_with').keys() == {'mmmixpro', 'torch', 'mmcv', 'mmengine', 'mmpretrain'}
    assert said == dict(
        config='mixpro/deit',
        method='PALClassifier, MixProBatchAugment 0.8, Mixup 0.2',
        data='ImageNet train',
        epoch=3,
        iter=24,
        seed=0,
        time='20250101_000500',
        trained_with='mmengine 0.10.7',
        commit_of_working_directory=COMMIT,
        dataset_meta=meta['dataset_meta'],
        accuracy={'accuracy/top1': 73.5, 'accuracy/top5': 91.0},
        part='backbone',
        parameters=sum(value.numel() for value in backbone_weights.values()),
    )


def test_nothing_is_said_that_is_not_known(config, weights, meta, save, tmp_path):
    target = str(tmp_path / 'x.pth')
    export(config(), save(dict(state_dict=weights, meta=meta)), [target])
    assert 'accuracy' not in read_checkpoint(target)[1]
    # Converted weights were not trained by the config.
    export(config(), save(dict(state_dict=weights)), [target])
    assert read_checkpoint(target)[1].keys() == {'config', 'exported_with', 'part', 'parameters'}
