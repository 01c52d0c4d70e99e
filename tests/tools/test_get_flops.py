# Copyright (c) MMMixPro contributors.
"""tools/analysis/get_flops.py, and what it counts."""

import json
import re
import runpy
import sys
from pathlib import Path

import pytest
from mmengine.model import BaseModel
from mmengine.registry import init_default_scope
from oracles.table_1 import TABLE_1
from torch import nn

from mmmixpro.utils import complexity
from mmmixpro.utils.complexity import count

ROOT = Path(__file__).resolve().parents[2]
TOOL = str(ROOT / 'tools/analysis/get_flops.py')
CONFIGS = ROOT / 'configs'


@pytest.fixture
def tool(monkeypatch, tmp_path, capsys):
    def tool(*args, columns=150):
        out = tmp_path / 'flops.json'
        monkeypatch.setattr(sys, 'argv', [TOOL, *map(str, args), '--out', str(out)])
        monkeypatch.setenv('COLUMNS', str(columns))
        runpy.run_path(TOOL, run_name='__main__')
        return json.loads(out.read_text()), capsys.readouterr().out

    return tool


def test_table_1(tool):
    found, printed = tool()
    assert [row['model'] for row in found] == list(TABLE_1)
    lines = {line.split()[1]: line.split() for line in printed.splitlines() if len(line.split()) > 8}
    for row in found:
        params, flops = TABLE_1[row['model']][:2]
        assert row['params'] / 1e6 == pytest.approx(params, rel=0.01)
        assert row['flops'] / 1e9 == pytest.approx(flops, rel=0.03, abs=0.05)
        assert row['shape'] == [224, 224]
        counted = [f'{row["params"] / 1e6:.2f}', f'{row["flops"] / 1e9:.2f}']
        *shown, published_params, _, published_flops, _ = lines[row['model']][7:]
        assert [shown[0], shown[2]] == counted
        assert float(published_params) == pytest.approx(params, rel=0.011)
        assert float(published_flops) == flops


def test_one_model_by_hand(vit_cfg):
    """4 layers of width 32 with FFNs of 64, on 4 x 4 patches of 16 px and a class token."""
    head = dict(type='VisionTransformerClsHead', num_classes=7, in_channels=32)
    found = count(dict(backbone=vit_cfg(), head=head))
    tokens = 17
    attention = 4 * tokens * 32 * 32 + 2 * tokens * tokens * 32
    layer = attention + 2 * tokens * 32 * 64
    assert found['flops'] == 16 * 32 * 3 * 16 * 16 + 4 * layer + 32 * 7
    layer = 4 * (32 * 32 + 32) + 2 * 32 * 64 + 32 + 64 + 4 * 32
    assert found['params'] == 3 * 256 * 32 + 32 + 32 + 17 * 32 + 4 * layer + 2 * 32 + 7 * 33
    # A method of ours and its labels cost nothing in use.
    smmix = dict(type='SMMixClassifier', backbone=vit_cfg(), head=head, train_cfg=dict(augments=[dict(type='SMMix')]))
    assert count(smmix) == found


def test_configs_and_shape(tool, tmp_path, vit_cfg):
    config = tmp_path / 'mine.py'
    head = dict(type='VisionTransformerClsHead', num_classes=7, in_channels=32)
    config.write_text(f'model = dict(type="PALClassifier", backbone={vit_cfg()!r}, head={head!r})')
    ((row,), _), ((wide,), _) = tool(config), tool(config, '--shape', 64, 128)
    assert row['model'] == str(config)
    assert (row['shape'], wide['shape']) == ([64, 64], [64, 128])
    assert wide['params'] == row['params']
    assert 1.9 < wide['flops'] / row['flops'] < 2.1
    both, _ = tool(config, '--model', 'deit-t')
    assert [row['model'] for row in both] == ['deit-t', str(config)]


def test_published_flops_are_of_one_shape(tool):
    for side, flops in ((224, ['5.7', '1.3']), (192, ['5.7'])):
        _, printed = tool('--model', 'deit-t', '--shape', side, side)
        (line,) = [line for line in printed.splitlines() if 'deit-t' in line]
        assert [cell.strip() for cell in line.strip('│').split('│') if cell.strip()][4:] == flops


def test_no_name_is_cut(tool, tmp_path, vit_cfg, monkeypatch):
    config = tmp_path / f'{"long" * 20}.py'
    head = dict(type='VisionTransformerClsHead', num_classes=7, in_channels=32)
    config.write_text(f'model = dict(type="ImageClassifier", backbone={vit_cfg()!r}, head={head!r})')
    _, printed = tool(config, columns=80)
    rows = [line.strip('│').split('│') for line in printed.splitlines() if line.startswith('│')]
    assert ''.join(row[0].strip() for row in rows) == str(config)
    assert all(len(line) <= 80 for line in printed.splitlines())


def test_memory_is_not_needed(monkeypatch, vit_cfg):
    """Before buffers are moved, parameters are without memory already."""
    seen = []
    to = nn.Module.to

    def spy(module, *args):
        seen.extend(param.is_meta for param in module.parameters())
        return to(module, *args)

    monkeypatch.setattr(BaseModel, 'to', spy)
    head = dict(type='VisionTransformerClsHead', num_classes=7, in_channels=32)
    # Nor are weights that the config names.
    count(dict(backbone=vit_cfg(init_cfg=dict(type='Pretrained', checkpoint='nowhere.pth', strict=True)), head=head))
    assert seen and all(seen)


@pytest.mark.parametrize('scope', ['mmdet', 'mmseg'])
def test_scope_of_others(scope, pvt_cfg):
    pytest.importorskip(f'{scope}.registry')
    init_default_scope(scope)
    count(dict(backbone=pvt_cfg(), head=dict(type='LinearClsHead', num_classes=7, in_channels=32)))


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['--model', 'deit-x'], "invalid choice: 'deit-x'"),
        (['--out', 'flops.txt'], "--out takes a .json file, got 'flops.txt'"),
        (['--out', 'nope/flops.json'], "--out takes a file in a folder that exists, got 'nope/flops.json'"),
        (['--shape', '0', '0'], 'expected a number of pixels, at least 1, got 0'),
        (['--shape', '224', 'x'], "invalid pixels value: 'x'"),
        (['nowhere.py'], "found no config 'nowhere.py'"),
        ([str(CONFIGS / '_base_/default_runtime.py')], 'default_runtime.py: Expected the model of a classifier, .*no'),
        ([str(CONFIGS / 'detection/mask-rcnn_pvt-s_fpn_1x_coco.py')], 'of a classifier, with backbone and head, found'),
    ],
)
def test_mistakes_are_refused(args, message, monkeypatch, capsys):
    """Before anything is counted, though the first config is a good one."""
    monkeypatch.setattr(complexity, 'count', None)
    monkeypatch.setattr(sys, 'argv', [TOOL, str(CONFIGS / 'baseline/deit-t_8xb128_in1k.py'), *args])
    with pytest.raises(SystemExit):
        runpy.run_path(TOOL, run_name='__main__')
    assert re.search(message, capsys.readouterr().err)


def test_no_classifier():
    with pytest.raises(ValueError, match=r"with backbone and head, found \['decode_head'\]"):
        count(dict(decode_head=dict()))
