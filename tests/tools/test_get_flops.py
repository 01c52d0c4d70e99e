# Copyright (c) MMMixPro contributors.
"""tools/analysis/get_flops.py, and what it counts."""

import json
import runpy
import sys
from pathlib import Path

import pytest

from mmmixpro.utils.complexity import count

TOOL = str(Path(__file__).resolve().parents[2] / 'tools/analysis/get_flops.py')
# Table 1 of MixPro, but for the FLOPs of DeiT-T and DeiT-S, which it prints as 1.6 and 4.7: as commonly counted.
TABLE_1 = {
    'deit-t': ('5.7', '1.3'),
    'deit-s': ('22.1', '4.6'),
    'deit-b': ('86.6', '17.6'),
    'pvt-t': ('13.2', '1.9'),
    'pvt-s': ('24.5', '3.8'),
    'pvt-m': ('44.2', '6.7'),
    'pvt-l': ('61.4', '9.8'),
    'cait-xxs24': ('12.0', '2.5'),
    'cait-xxs36': ('17.3', '3.8'),
    'xcit-t24': ('12', '2.3'),
    'xcit-s12': ('26', '4.8'),
    'xcit-m24': ('84', '16.2'),
    'xcit-l24': ('189', '36.1'),
    'ca-swin-t': ('28.3', '4.2'),
    'ca-swin-s': ('49.6', '8.5'),
}


@pytest.fixture
def tool(monkeypatch, tmp_path, capsys):
    def tool(*args):
        out = tmp_path / 'flops.json'
        monkeypatch.setattr(sys, 'argv', [TOOL, *map(str, args), '--out', str(out)])
        monkeypatch.setenv('COLUMNS', '150')
        runpy.run_path(TOOL, run_name='__main__')
        return json.loads(out.read_text()), capsys.readouterr().out

    return tool


def test_table_1(tool):
    found, printed = tool()
    assert [row['model'] for row in found] == list(TABLE_1)
    lines = {line.split()[1]: line.split() for line in printed.splitlines() if len(line.split()) > 8}
    for row in found:
        params, flops = TABLE_1[row['model']]
        assert row['params'] / 1e6 == pytest.approx(float(params), rel=0.01)
        assert row['flops'] / 1e9 == pytest.approx(float(flops), rel=0.03, abs=0.05)
        assert row['shape'] == [224, 224]
        assert {f'{row["params"] / 1e6:.2f}', f'{row["flops"] / 1e9:.2f}', params, flops} <= set(lines[row['model']])


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


def test_mistakes_are_refused(tool, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        tool('--model', 'deit-x')
    assert "invalid choice: 'deit-x'" in capsys.readouterr().err
    monkeypatch.setattr(sys, 'argv', [TOOL, '--out', 'flops.txt'])
    with pytest.raises(SystemExit):
        runpy.run_path(TOOL, run_name='__main__')
    assert "--out takes a .json file, got 'flops.txt'" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"with backbone and head, found \['decode_head'\]"):
        count(dict(decode_head=dict()))
