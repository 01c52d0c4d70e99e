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
    # A job that was requeued before its first checkpoint starts anew, as the config says.
    fresh = planned('--work-dir', 'fresh', '--resume')
    assert not fresh.resume and fresh.load_from is None
    fresh = planned('--work-dir', 'fresh', '--resume', '--cfg-options', f'load_from={checkpoint}')
    assert not fresh.resume and fresh.load_from == str(checkpoint)
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


def test_tta_of_a_wrapped_set_is_refused(tiny, checkpoint):
    config = tiny.config.with_stem('wrapped')
    config.write_text(
        "_base_ = 'tiny.py'\nimages = _base_.dataset\nimages['pipeline'] = _base_.test_pipeline\n"
        "test_dataloader = dict(dataset=dict(_delete_=True, type='CorruptedDataset', dataset=images))\n"
    )
    with pytest.raises(ValueError, match='--tta sets the pipeline of the test set, and CorruptedDataset has none'):
        tiny.tool('test.py', config, checkpoint, '--tta')


def test_predictions_are_drawn(tiny, checkpoint):
    tiny.tool('test.py', tiny.config, checkpoint, '--show-dir', 'drawn')

    assert len(list(Path(tiny.folder, 'drawn').rglob('*.png'))) == 4


class Payload:
    def __reduce__(self):
        return exec, ('raise SystemExit',)


def test_checkpoint_must_fit_the_model(tiny, checkpoint, capsys):
    def refuse(content, error, match):
        torch.save(content, tiny.folder / 'wrong.pth')
        with pytest.raises(error, match=match):
            tiny.tool('test.py', tiny.config, tiny.folder / 'wrong.pth')

    saved = tiny.checkpoint(checkpoint)
    weights = saved['state_dict']
    less = {key: value for key, value in weights.items() if key != 'backbone.cls_token'}
    mend = 'Give the checkpoint that was saved with this config'
    refuse({'state_dict': less}, ValueError, rf'missing in the checkpoint \(1\): backbone\.cls_token\n(.|\n)*{mend}')
    refuse({'state_dict': {f'model.{key}': value for key, value in weights.items()}}, ValueError, r' 0 of \d+ tensors')
    refuse({'state_dict': weights, 'meta': Payload()}, ValueError, 'carries code')
    with pytest.raises(FileNotFoundError, match=r'nowhere\.pth'):
        tiny.tool('test.py', tiny.config, 'nowhere.pth')

    capsys.readouterr()
    tiny.tool('test.py', tiny.config, checkpoint)
    assert f'{len(weights)} of {len(weights)} tensors matched; resized: none' in capsys.readouterr().out


def test_exported_files_and_averaged_weights(tiny, checkpoint):
    """A whole classifier is tested from what was exported; and with EMAHook, what is tested is the average."""
    config = tiny.config.with_stem('averaging')
    config.write_text("_base_ = 'tiny.py'\ncustom_hooks = [dict(type='EMAHook', momentum=0.9)]\n")
    tiny.tool('train.py', config, '--work-dir', 'averaging')
    source = 'averaging/epoch_3.pth'
    tiny.tool('export_backbone.py', config, source, 'x.pth', 'x.safetensors', '--part', 'classifier')
    found = {}
    for name, cfg in ((source, config), ('x.pth', config), ('x.pth', tiny.config), ('x.safetensors', tiny.config)):
        tiny.tool('test.py', cfg, name, '--out', 'out.pkl')
        predictions = pickle.loads((tiny.folder / 'out.pkl').read_bytes())
        found[name, cfg] = torch.stack([prediction['pred_score'] for prediction in predictions])
    first, *others = found.values()
    assert all(torch.equal(scores, first) for scores in others)
    # What its own log says of it.
    log = next((tiny.folder / 'averaging').glob('*/vis_data/scalars.json')).read_text().splitlines()
    *_, last = (json.loads(line) for line in log if 'accuracy/top1' in line)
    meta = tiny.checkpoint('x.pth')['meta']
    assert last['step'] == meta['epoch'] == 3
    assert meta['accuracy'] == {'accuracy/top1': last['accuracy/top1']}
    assert meta['method'] == 'PALClassifier, MixProBatchAugment 0.8, Mixup 0.2'
    assert meta['dataset_meta'] == dict(classes=['a', 'b'])
