# Copyright (c) MMMixPro contributors.
"""benchmarks/transfer.py with a stand-in for the training."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import transfer
from mmengine.config import Config

WAYS = ('mixpro', 'scratch', 'scratch-narrow')


@pytest.fixture
def study(monkeypatch, tmp_path):
    started, weights = [], [b'first']

    def train(command, **kwargs):
        folder = Path(command[command.index('--work-dir') + 1])
        started.append(folder.name)
        (folder / 'last.pth').write_bytes(weights[0])
        (folder / 'now/vis_data').mkdir(parents=True)
        metrics = {
            'mIoU': 20.0 + len(started),
            'coco/bbox_mAP': 0.25,
            'coco/segm_mAP': 0.2,
            'accuracy/top1': 50.0,
            'time': 1.0,
        }
        lines = [dict(loss=1.0, step=1), dict(mIoU=1.0, step=1), dict(metrics, step=2)]
        (folder / 'now/vis_data/scalars.json').write_text('\n'.join(map(json.dumps, lines)))
        (folder / 'last_checkpoint').write_text(str(folder / 'last.pth'))
        return SimpleNamespace(returncode=int('fail' in str(folder)))

    monkeypatch.setattr(transfer, 'subprocess', SimpleNamespace(run=train, STDOUT=None))
    for pack in ('tinyimagenet64c', 'camvid', 'coco_mini'):
        (tmp_path / 'data' / pack).mkdir(parents=True)

    def study(*args, work_dir='work'):
        out = tmp_path / 'out.json'
        argv = ['transfer.py', '--data', tmp_path / 'data', '--work-dir', tmp_path / work_dir, '--out', out, *args]
        monkeypatch.setattr(sys, 'argv', [str(arg) for arg in argv])
        del started[:]
        transfer.main()
        return json.loads(out.read_text()), list(started)

    return study


def test_every_run_differs_in_its_start_alone(study, tmp_path):
    found, started = study('--seeds', '0', '1')
    assert [name for name in started if name.startswith('pretrain')] == ['pretrain-deit', 'pretrain-pvt']
    assert len(started) == 2 + 2 * 3 * 2 + 2
    assert [run['validations'][-1]['step'] for run in found['runs']] == [2] * 14
    assert set(found['runs'][0]['validations'][-1]) == {
        'mIoU',
        'coco/bbox_mAP',
        'coco/segm_mAP',
        'accuracy/top1',
        'step',
    }
    for task in ('segmenter', 'linear'):
        for seed in (0, 1):
            cfgs = [Config.fromfile(tmp_path / f'work/{task}-{way}-{seed}/config.py') for way in WAYS]
            starts = [cfg.model.backbone.pop('init_cfg') for cfg in cfgs]
            assert len({json.dumps(cfg.to_dict(), sort_keys=True, default=str) for cfg in cfgs}) == 1
            assert cfgs[0].randomness.seed == seed
            assert starts[0].checkpoint == str(tmp_path / 'work/pretrain-deit/last.pth') and starts[0].strict
            assert [start[0].std for start in starts[1:]] == [0.06, 0.02]
    assert {run['start'] for run in found['runs'] if run['task'] == 'mask_rcnn'} == {'MixPro', 'scratch'}


def test_finished_runs_are_kept(study, tmp_path):
    first, started = study('--tasks', 'linear', '--seeds', '0')
    assert len(started) == 4
    again, started = study('--tasks', 'linear', '--seeds', '0', '3')
    # The pretraining of seed 0 serves all.
    assert started == [f'linear-{way}-3' for way in WAYS]
    assert again['runs'][0] == first['runs'][0]
    # The pretraining's seed is not the study's.
    assert study('--tasks', 'linear', '--seeds', '3')[1] == []


def test_runs_of_other_settings_are_not_kept(study, tmp_path, monkeypatch):
    study('--tasks', 'linear', '--seeds', '0')
    monkeypatch.setattr(transfer, 'NARROW', 0.03)
    assert study('--tasks', 'linear', '--seeds', '0')[1] == ['linear-scratch-narrow-0']
    (tmp_path / 'work/pretrain-deit/last.pth').write_bytes(b'another')
    assert study('--tasks', 'linear', '--seeds', '0')[1] == ['linear-mixpro-0']


def test_failures_are_told(study, tmp_path):
    with pytest.raises(SystemExit, match=r'pretrain-deit failed\. Its output: .*console\.log'):
        study(work_dir='fail')
    (tmp_path / 'data/camvid').rmdir()
    with pytest.raises(SystemExit, match=r"no \['camvid'\]"):
        study()
