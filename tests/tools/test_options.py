# Copyright (c) MMMixPro contributors.
"""Options of tools/train.py and tools/test.py, run within this process."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from mmengine.runner import Runner


@pytest.fixture
def planned(tiny, monkeypatch):
    """The config that a tool hands to the runner."""

    def planned(*args, tool='train.py', config=tiny.config):
        seen = []
        monkeypatch.setattr(Runner, 'train', lambda runner: seen.append(runner.cfg))
        tiny.tool(tool, config, *args)
        return seen[0]

    return planned


@pytest.fixture(scope='module')
def checkpoint(tiny):
    """A trained checkpoint; weights are drawn anew, or the model would answer alike to all."""
    tiny.tool('train.py', tiny.config, '--work-dir', 'work')
    path = tiny.folder / 'work' / 'epoch_3.pth'
    saved = tiny.checkpoint(path)
    torch.manual_seed(0)
    for weight in saved['state_dict'].values():
        weight.normal_()
    torch.save(saved, path)
    return path


def test_defaults(planned):
    cfg = planned()

    # Two configs of one name in two folders do not share checkpoints.
    assert cfg.work_dir == 'work_dirs/configs/tiny'
    assert cfg.train_dataloader.collate_fn == dict(type='default_collate')
    assert not cfg.train_dataloader.persistent_workers
    assert planned('--cfg-options', 'val_dataloader.num_workers=1').val_dataloader.persistent_workers
    assert cfg.train_dataloader.pin_memory == torch.cuda.is_available()
    assert not cfg.resume


def test_options_are_merged(planned):
    cfg = planned(
        '--work-dir', 'w', '--no-validate', '--auto-scale-lr', '--no-pin-memory', '--amp',
        '--cfg-options', 'train_dataloader.num_workers=0', 'optim_wrapper.optimizer.lr=0.5',
        'train_dataloader.persistent_workers=True',
    )  # fmt: skip

    assert cfg.work_dir == 'w'
    assert cfg.val_cfg is cfg.val_dataloader is cfg.val_evaluator is None
    assert cfg.auto_scale_lr.enable
    assert not cfg.train_dataloader.pin_memory
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    assert cfg.optim_wrapper.optimizer.lr == 0.5
    # torch refuses persistent workers where there are none.
    assert not cfg.train_dataloader.persistent_workers
    cfg = planned('--no-persistent-workers', '--cfg-options', 'val_dataloader.num_workers=1')
    assert not cfg.val_dataloader.persistent_workers


def test_resume_takes_a_file_or_the_last_checkpoint(planned, checkpoint, tiny):
    assert planned('--work-dir', 'work', '--resume').load_from == str(checkpoint)
    assert planned('--resume', checkpoint).load_from == str(checkpoint)
    # A job that was requeued before its first checkpoint starts anew.
    assert planned('--work-dir', 'fresh', '--resume').load_from is None
    with pytest.raises(FileNotFoundError, match=r"found no 'nowhere\.pth'"):
        planned('--resume', 'nowhere.pth')


@pytest.mark.parametrize(
    ('options', 'error', 'message'),
    [
        (['--cfg-options', 'method.type=X'], ValueError, r'--cfg-options model\.x'),
        (['--cfg-options', 'train_dataloader.dataset.data_root=x'],
         FileNotFoundError, r"expects '.*/x', found only .* --cfg-options train_dataloader\.dataset\.data_root="),
        (['--auto-scale-lr', '--cfg-options', 'auto_scale_lr._delete_=True'], ValueError,
         'base_batch_size'),
        (['--amp', '--cfg-options', 'optim_wrapper.type=X'], ValueError, 'AmpOptimWrapper'),
        (['--amp', '--cfg-options', 'optim_wrapper.dtype=bfloat16'], ValueError, 'bfloat16 already.*Leave --amp out'),
        (['--cfg-options', 'model.head.num_classes=1'], ValueError,
         r'2 classes, but model\.head .* room for 1'),
    ],
)  # fmt: skip
def test_mistakes_are_refused(tiny, options, error, message):
    with pytest.raises(error, match=message):
        tiny.tool('train.py', tiny.config, *options)


def test_metrics_and_predictions_are_written(tiny, checkpoint):
    tiny.tool('test.py', tiny.config, checkpoint, '--out', 'metrics.json')
    metrics = json.loads((tiny.folder / 'metrics.json').read_text())
    tiny.tool('test.py', tiny.config, checkpoint, '--out', 'out.pkl')
    predictions = pickle.loads((tiny.folder / 'out.pkl').read_bytes())

    right = [int(p['pred_label']) == int(p['gt_label']) for p in predictions]
    assert len(right) == 4
    assert metrics == {'accuracy/top1': 100 * sum(right) / len(right)}


def test_tta_averages_an_image_and_its_mirror(tiny, checkpoint):
    def scores(name, *options, config=tiny.config):
        tiny.tool('test.py', config, checkpoint, '--out', name, *options)
        predictions = pickle.loads((tiny.folder / name).read_bytes())
        return torch.stack([prediction['pred_score'] for prediction in predictions])

    mirror = tiny.config.with_stem('mirror')
    mirror.write_text(
        "_base_ = 'tiny.py'\npipeline = _base_.test_pipeline\n"
        "pipeline.insert(2, dict(type='RandomFlip', prob=1.0))\n"
        'test_dataloader = dict(dataset=dict(pipeline=pipeline))\n'
    )
    plain, tta = scores('plain.pkl'), scores('tta.pkl', '--tta')
    mirrored = scores('mirrored.pkl', config=mirror)

    assert not torch.allclose(plain, mirrored, atol=1e-3)
    torch.testing.assert_close(tta, (plain + mirrored) / 2)


def test_predictions_are_drawn(tiny, checkpoint):
    tiny.tool('test.py', tiny.config, checkpoint, '--show-dir', 'drawn')

    assert len(list(Path(tiny.folder, 'drawn').rglob('*.png'))) == 4


def test_checkpoint_must_fit_the_model(tiny, checkpoint):
    saved = tiny.checkpoint(checkpoint)
    saved['state_dict'].pop('backbone.cls_token')
    torch.save(saved, tiny.folder / 'partial.pth')

    with pytest.raises(RuntimeError, match=r'backbone\.cls_token'):
        tiny.tool('test.py', tiny.config, tiny.folder / 'partial.pth')
    with pytest.raises(FileNotFoundError, match=r'nowhere\.pth'):
        tiny.tool('test.py', tiny.config, 'nowhere.pth')
