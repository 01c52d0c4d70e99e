# Copyright (c) MMMixPro contributors.
import os
import sys
from types import ModuleType

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import METRICS

from mmmixpro.engine.launch import build_runner, latest_checkpoint, use_faster_coco


@pytest.fixture
def saved(tmp_path):
    """Checkpoints of epochs 9 and 10, the latter the last."""
    for age, epoch in enumerate((10, 9)):
        path = tmp_path / f'epoch_{epoch}.pth'
        torch.save(dict(epoch=epoch), path)
        os.utime(path, (100 - age, 100 - age))
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_10.pth'))
    return tmp_path


def test_latest_is_what_mmengine_wrote_down(saved):
    (saved / 'last_checkpoint').write_text(str(saved / 'epoch_9.pth'))
    assert latest_checkpoint(str(saved)) == str(saved / 'epoch_9.pth')


def test_killed_while_writing_the_checkpoint(saved):
    whole = (saved / 'epoch_10.pth').read_bytes()
    (saved / 'epoch_10.pth').write_bytes(whole[:-100])
    assert latest_checkpoint(str(saved)) == str(saved / 'epoch_9.pth')


@pytest.mark.parametrize('text', ['', 'elsewhere/epoch_10.pth'])
def test_last_checkpoint_is_empty_or_the_folder_was_moved(saved, text):
    (saved / 'last_checkpoint').write_text(text)
    assert latest_checkpoint(str(saved)) == str(saved / 'epoch_10.pth')


def test_nothing_complete_is_an_error_but_nothing_at_all_is_a_fresh_start(saved, tmp_path):
    for path in saved.glob('*.pth'):
        path.write_bytes(b'')
    with pytest.raises(FileNotFoundError, match='--resume FILE'):
        latest_checkpoint(str(saved))
    assert latest_checkpoint(str(tmp_path / 'new')) is None


def test_slurm_without_gpus_is_refused(monkeypatch):
    monkeypatch.setattr('mmmixpro.engine.launch.get_device', lambda: 'cpu')
    with pytest.raises(ValueError, match=r'tools/dist_train\.sh'):
        build_runner(Config(dict(launcher='slurm')))


class TestCocoMetric:
    """The metric for COCO follows what is installed, and the log says which it is."""

    @pytest.fixture
    def said(self, monkeypatch):
        lines = []
        monkeypatch.setattr('mmmixpro.engine.launch.print_log', lambda line, logger: lines.append(line))
        return lines

    @pytest.fixture
    def installed(self, monkeypatch):
        pytest.importorskip('mmdet')
        monkeypatch.setitem(sys.modules, 'faster_coco_eval', ModuleType('faster_coco_eval'))

    def types(self, scope='mmdet', name='CocoMetric'):
        coco = dict(type=name, metric='bbox')
        cfg = Config(dict(default_scope=scope, val_evaluator=coco, test_evaluator=[coco, dict(type='DumpDetResults')]))
        use_faster_coco(cfg)
        return [cfg.val_evaluator.type, *(metric.type for metric in cfg.test_evaluator)]

    def test_with_the_package(self, installed, said):
        assert self.types() == ['FasterCocoMetric', 'FasterCocoMetric', 'DumpDetResults']
        assert said == ['COCO: FasterCocoMetric, for faster_coco_eval is installed.']

    def test_without_the_package(self, monkeypatch, said):
        monkeypatch.setitem(sys.modules, 'faster_coco_eval', None)
        assert self.types() == ['CocoMetric', 'CocoMetric', 'DumpDetResults']
        (line,) = said
        assert line.startswith('COCO: CocoMetric (') and 'pip install faster-coco-eval' in line

    def test_with_an_mmdet_that_lacks_it(self, installed, monkeypatch, said):
        with METRICS.switch_scope_and_registry('mmdet') as registry:
            registry.get('CocoMetric')  # registers all of mmdet's
            monkeypatch.delitem(registry.module_dict, 'FasterCocoMetric')
        assert self.types() == ['CocoMetric', 'CocoMetric', 'DumpDetResults']
        assert said == ['COCO: CocoMetric, for this mmdet has no FasterCocoMetric.']

    def test_nobody_else_is_concerned(self, installed, said):
        assert self.types(scope='mmseg') == ['CocoMetric', 'CocoMetric', 'DumpDetResults']
        assert self.types(name='mmdet.CocoMetric') == ['mmdet.CocoMetric', 'mmdet.CocoMetric', 'DumpDetResults']
        use_faster_coco(Config(dict(default_scope='mmdet')))
        use_faster_coco(Config(dict(default_scope='mmdet', val_evaluator=None)))
        assert said == []
