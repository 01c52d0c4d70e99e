# Copyright (c) MMMixPro contributors.
"""What all downstream configs share: where checkpoint and data come from, and the README's tables."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

import mmmixpro  # noqa: F401
from mmmixpro.engine.preflight import check_data_paths

CONFIGS = Path(__file__).parents[2] / 'configs'
FOLDERS = ('segmentation', 'detection', 'finetune')
LEAVES = sorted(str(path.relative_to(CONFIGS)) for folder in FOLDERS for path in (CONFIGS / folder).glob('*.py'))
TRANSFERS = [name for name in LEAVES if not name.endswith('_scratch.py')]
SPLITS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


@pytest.fixture(autouse=True)
def detection_needs_mmdet(request):
    if '[detection/' in request.node.name:
        pytest.importorskip('mmdet')


def load_backbone(cfg):
    # Of one library, whichever the config's is.
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        backbone = MODELS.build(cfg.model.backbone)
        backbone.init_weights()
    return backbone


@pytest.mark.parametrize('name', TRANSFERS)
def test_checkpoint_from_the_environment(name, monkeypatch):
    """By default MixPro's of the same model; and never another model's, nor none at all."""
    monkeypatch.delenv('MIXPRO_CHECKPOINT', raising=False)
    init = Config.fromfile(CONFIGS / name).model.backbone.init_cfg
    (model,) = re.findall(r'_((?:deit|pvt)-\w)_', name)
    assert init.checkpoint == f'work_dirs/mixpro/{model}_8xb128_in1k/epoch_300.pth'
    assert (CONFIGS / f'mixpro/{model}_8xb128_in1k.py').is_file()
    monkeypatch.setenv('MIXPRO_CHECKPOINT', '/nowhere/mine.pth')
    init = Config.fromfile(CONFIGS / name).model.backbone.init_cfg
    assert (init.type, init.checkpoint, init.prefix, init.strict) == (
        'Pretrained',
        '/nowhere/mine.pth',
        'backbone.',
        True,
    )


@pytest.mark.parametrize('method', ['cutmix', 'transmix', 'mixpro', 'smmix'])
@pytest.mark.parametrize(
    ('name', 'model'),
    [
        ('segmentation/segmenter_deit-s_8xb2-80k_pascal-context-480x480.py', 'deit-s'),
        ('detection/mask-rcnn_pvt-s_fpn_1x_coco.py', 'pvt-s'),
        ('finetune/baseline_deit-s_8xb96_cub.py', 'deit-s'),
        ('finetune/mixpro_pvt-s_8xb96_cub.py', 'pvt-s'),
    ],
)
def test_from_each_pretraining(method, name, model, load_config, pretrained, backbone_weights, monkeypatch):
    """Through the one variable, whatever method the checkpoint is of."""
    checkpoint = pretrained(f'{method}/{model}_8xb128_in1k.py')
    monkeypatch.setenv('MIXPRO_CHECKPOINT', checkpoint)
    stored, state = backbone_weights(checkpoint), load_backbone(load_config(name)).state_dict()
    # All but the embeddings of positions, which are resized in segmentation, cut in detection.
    assert len(state) >= 30 and not state.keys() - stored.keys()
    assert all(torch.equal(state[key], stored[key]) for key in state if not key.endswith('pos_embed'))


@pytest.mark.parametrize('name', TRANSFERS[::5])
def test_no_checkpoint(name, load_config, monkeypatch):
    monkeypatch.setenv('MIXPRO_CHECKPOINT', '/nowhere/mine.pth')
    with pytest.raises(FileNotFoundError, match=r'/nowhere/mine\.pth.*MIXPRO_CHECKPOINT'):
        load_backbone(load_config(name))


@pytest.mark.parametrize('name', TRANSFERS[::5])
def test_checkpoint_of_another_model(name, load_config, deit, pvt):
    """Its refusal reaches the user through the whole model, and through the environment."""
    other = pvt if 'deit' in name else deit
    with pytest.raises(ValueError, match=rf'Cannot load {other}.*\n  missing in the checkpoint'):
        load_backbone(load_config(name, other))


@pytest.mark.parametrize(
    ('name', 'variable'),
    [
        ('segmentation/linear_deit-t_8xb2-80k_pascal-context-480x480.py', 'PASCAL_CONTEXT_ROOT'),
        ('segmentation/linear_deit-t_8xb2-80k_pascal-context-59-480x480.py', 'PASCAL_CONTEXT_ROOT'),
        ('detection/mask-rcnn_pvt-t_fpn_1x_coco.py', 'COCO_ROOT'),
        ('detection/retinanet_pvt-t_fpn_1x_coco.py', 'COCO_ROOT'),
        ('finetune/mixpro_pvt-s_8xb96_cifar100.py', 'CIFAR100_ROOT'),
        ('finetune/mixpro_pvt-s_1xb100_cifar100_scratch.py', 'CIFAR100_ROOT'),
        ('finetune/mixpro_pvt-s_8xb96_cub.py', 'CUB_ROOT'),
        ('finetune/mixpro_pvt-s_8xb96_cars.py', 'STANFORD_CARS_ROOT'),
        ('finetune/mixpro_pvt-s_8xb96_aircraft.py', 'FGVC_AIRCRAFT_ROOT'),
    ],
)
def test_data_from_the_environment(name, variable, monkeypatch):
    monkeypatch.delenv(variable, raising=False)
    cfg = Config.fromfile(CONFIGS / name)
    assert all(re.match(r'data/\w', cfg[split].dataset.data_root) for split in SPLITS)
    monkeypatch.setenv(variable, '/nowhere/mine')
    cfg = Config.fromfile(CONFIGS / name)
    assert {cfg[split].dataset.data_root for split in SPLITS} == {'/nowhere/mine'}
    if variable == 'COCO_ROOT':
        for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
            assert evaluator.ann_file == '/nowhere/mine/annotations/instances_val2017.json'
    if variable != 'CIFAR100_ROOT':  # which mmpretrain downloads
        for split in SPLITS:
            with pytest.raises(FileNotFoundError, match=rf'/nowhere/mine.*export {variable}='):
                check_data_paths(cfg, (split,))


def spelled_out(name):
    """``a_{b,c}`` as the shell reads it."""
    braces = re.search(r'\{([^}]*)\}', name)
    if braces is None:
        return [name]
    return [full for part in braces[1].split(',') for full in spelled_out(name.replace(braces[0], part, 1))]


def test_configs_are_listed_once_each():
    """In a row of the README, where none was trained."""
    text = (CONFIGS / 'README.md').read_text().partition('## Downstream')[2].partition('\n## ')[0]
    rows = [[cell.strip() for cell in line.strip('|').split('|')] for line in text.splitlines() if line[:3] == '| `']
    listed = [name for row in rows for name in spelled_out(row[0].strip('`'))]
    assert sorted(listed) == sorted(Path(name).stem for name in LEAVES)
    assert {row[-1] for row in rows} == {'no'}
