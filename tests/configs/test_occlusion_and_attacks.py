# Copyright (c) MMMixPro contributors.
"""The configs of occlusion and attacks: a method's model and data, another test."""

from pathlib import Path

import pytest
import timm
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS, MODELS
from mmpretrain.structures import DataSample
from torch.utils.data import Dataset

import mmmixpro  # noqa: F401

CONFIGS = Path(__file__).parents[2] / 'configs'
LEAVES = [
    f'{method}_deit-s_{suite}'
    for method in ('cutmix', 'transmix', 'smmix', 'mixpro')
    for suite in ('occlusion', 'adversarial')
]


@pytest.fixture(autouse=True)
def no_guide(monkeypatch):
    monkeypatch.delenv('DINO_CHECKPOINT', raising=False)


@DATASETS.register_module(force=True)
class FullSizeNoise(Dataset):
    """Three images of 224 px."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        image = torch.randint(0, 256, (3, 224, 224), dtype=torch.uint8)
        return dict(inputs=image, data_samples=DataSample(metainfo=dict(sample_idx=index)).set_gt_label(index))


def result(cfg, folder):
    """Metrics of a narrow model on noise."""
    cfg.model.backbone.arch = dict(embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=48)
    cfg.model.head.in_channels = 24
    sampler, collate = dict(type='DefaultSampler', shuffle=False), dict(type='default_collate')
    init_default_scope('mmpretrain')
    runner = Runner(
        model=MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor)),
        work_dir=str(folder),
        test_dataloader=dict(batch_size=2, num_workers=0, dataset=FullSizeNoise(), sampler=sampler, collate_fn=collate),
        test_evaluator=cfg.test_evaluator,
        test_cfg=cfg.test_cfg,
        default_scope='mmpretrain',
        experiment_name=folder.name,
        log_level='WARNING',
    )
    return runner.test(), runner.test_loop.describe()


@pytest.mark.parametrize('leaf', LEAVES)
def test_leaf_is_the_methods_but_for_the_test(leaf):
    cfg = Config.fromfile(CONFIGS / f'robustness/{leaf}.py')
    method, _, suite = leaf.split('_')
    own = Config.fromfile(CONFIGS / f'{method}/deit-s_8xb128_in1k.py')
    for part in ('model', 'data_preprocessor', 'test_dataloader', 'val_evaluator', 'train_dataloader'):
        assert cfg[part] == own[part]
    base = Config.fromfile(CONFIGS / f'_base_/robustness/{suite}.py').robustness
    assert set(base) == {'evaluator', 'test_cfg'}
    assert (cfg.test_evaluator, cfg.test_cfg) == (base.evaluator, base.test_cfg)


KEYS = dict(
    occlusion={f'{kind}/{percent}' for kind in ('random', 'salient', 'non-salient') for percent in range(0, 101, 10)},
    adversarial={'clean', 'fgsm', 'pgd'},
)


@pytest.mark.parametrize('suite', KEYS)
def test_leaf_runs_inherited_from_elsewhere(suite, tmp_path):
    """mmengine marks what it inherits so with a scope of ours."""
    (tmp_path / 'own.py').write_text(f"_base_ = 'mmmixpro::robustness/mixpro_deit-s_{suite}.py'")
    metrics, _ = result(Config.fromfile(tmp_path / 'own.py'), tmp_path)
    assert set(metrics) == {f'{suite}/{key}' for key in KEYS[suite]}


@pytest.mark.slow
def test_occlusion_by_dino(tmp_path, monkeypatch):
    """A file like the official one, of ViT-S/16 without a head."""
    model = timm.create_model('vit_small_patch16_224', num_classes=0)
    torch.save(model.state_dict(), tmp_path / 'dino.pth')
    monkeypatch.setenv('DINO_CHECKPOINT', str(tmp_path / 'dino.pth'))
    metrics, said = result(Config.fromfile(CONFIGS / 'robustness/mixpro_deit-s_occlusion.py'), tmp_path)
    assert len(metrics) == 33
    assert said.endswith(f'salient by class attention of {tmp_path}/dino.pth (VisionTransformer, head 1)')
