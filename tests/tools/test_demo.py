# Copyright (c) MMMixPro contributors.
"""What of the demo can be checked without running it."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def load(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / 'tools' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    # dataclasses look their module up.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize('world', ['shapes', 'real'])
def test_every_stage_has_its_config_and_its_checkpoint(world):
    done = {}
    for stage in load('demo').STAGES:
        assert (ROOT / 'configs/demo' / stage.config.format(world=world)).is_file()
        if stage.pretrained:
            assert done[stage.pretrained].group == 'pretraining'
        done[stage.name] = stage


@pytest.mark.parametrize('world', ['shapes', 'real'])
@pytest.mark.parametrize('config', ['segmenter_deit', 'mask-rcnn_pvt'])
def test_scratch_differs_by_its_start_alone(world, config):
    """Same model, schedule, learning rate and seed."""
    from mmengine.config import Config

    pretrained = Config.fromfile(ROOT / f'configs/demo/{config}_{world}.py').to_dict()
    scratch = Config.fromfile(ROOT / f'configs/demo/{config}_{world}_scratch.py').to_dict()
    assert pretrained['model']['backbone'].pop('init_cfg')['type'] == 'Pretrained'
    start = scratch['model']['backbone'].pop('init_cfg')
    assert [init['type'] for init in start] == ['TruncNormal', 'Constant']
    assert scratch == pretrained


def test_missing_data_is_named(tmp_path):
    (tmp_path / 'camvid').mkdir()
    command = [sys.executable, ROOT / 'tools/demo.py', '--data', tmp_path]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode
    assert 'tinyimagenet64c, coco_mini missing' in run.stderr


def test_going_on_needs_the_stages_before(tmp_path):
    (tmp_path / 'stages.json').write_text(json.dumps(dict(stages=[dict(name='pretrain-deit')])))
    for folder in ('data/tinyimagenet64c', 'data/camvid', 'data/coco_mini'):
        (tmp_path / folder).mkdir(parents=True)
    command = [sys.executable, ROOT / 'tools/demo.py', '--data', tmp_path / 'data', '--work-dir', tmp_path]
    run = subprocess.run([*command, '--from', 'pretrain-pvt'], capture_output=True, text=True)
    assert run.returncode
    assert 'go on at segment-mixpro' in run.stderr


def test_results_are_those_of_the_last_validation(tmp_path):
    report = load('demo_report')
    logged = {
        'pretrain-deit': [{'accuracy/top1': 60.0, 'step': 1}, {'accuracy/top1': 50.0, 'step': 2}],
        'segment-mixpro': [{'mIoU': 40.0, 'step': 10}, {'mIoU': 30.0, 'step': 20}],
        'segment-scratch': [{'mIoU': 20.0, 'step': 20}],
        'pretrain-pvt': [{'accuracy/top1': 70.0, 'step': 1}],
        'detect-mixpro': [{'coco/bbox_mAP': 0.3, 'coco/segm_mAP': 0.2, 'step': 1}],
        'detect-scratch': [{'coco/bbox_mAP': 0.1, 'coco/segm_mAP': 0.05, 'step': 1}],
    }
    stages = []
    for stage in load('demo').STAGES:
        folder = tmp_path / stage.name / 'now' / 'vis_data'
        folder.mkdir(parents=True)
        lines = [{'loss': 1.0, 'step': 1}, *logged[stage.name]]
        (folder / 'scalars.json').write_text('\n'.join(map(json.dumps, lines)))
        config = f'configs/demo/{stage.config.format(world="shapes")}'
        stages.append(dict(vars(stage), config=config, work_dir=str(folder.parents[1]), seconds=1.0))
    results = report.collect(dict(data='shapes', stages=stages))
    assert [(row['metric'], row['mixpro'], row['scratch']) for row in results['table']] == [
        ('mIoU', 30.0, 20.0),
        ('box AP', 30.0, 10.0),
        ('mask AP', 20.0, 5.0),
    ]
    assert stages[0]['curve'] == [[1, 60.0], [2, 50.0]]
    assert stages[4]['curve'] == [[1, 30.0]]
