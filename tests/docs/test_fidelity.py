# Copyright (c) MMMixPro contributors.
"""docs/fidelity.md: every test that it names is there; and the deviations that no other test holds."""

import ast
import inspect
import re

import pytest
from mmengine.config import Config
from mmpretrain.registry import MODELS
from mmseg.models.decode_heads import SegmenterMaskTransformerHead
from pages import ROOT
from torch import nn

ROWS = [line for line in (ROOT / 'docs/fidelity.md').read_text().splitlines() if line.startswith('| ')]
ROWS = [row for row in ROWS if not row.startswith('| what |')]


def test_every_row_names_tests_that_there_are():
    assert len(ROWS) > 40
    for row in ROWS:
        cells = row.strip('|').split('|')
        assert len(cells) == 5 and all(cell.strip() for cell in cells), row
        named = re.findall(r'\[`(test_\w+)`\]\(\.\./(tests/[\w/]+\.py)\)', cells[-1])
        assert named and len(named) == cells[-1].count(']('), row
        for name, file in named:
            tree = ast.parse((ROOT / file).read_text())
            assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, (name, file)


@pytest.mark.parametrize('model', ['deit-s', 'pvt-s'])
def test_tokenmix_trains_with_the_loss_of_the_others(model):
    losses = [
        Config.fromfile(ROOT / f'configs/{method}/{model}_8xb128_in1k.py').model.head.loss.to_dict()
        for method in ('tokenmix', 'mixpro')
    ]
    assert losses == [dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')] * 2


@pytest.mark.parametrize('size', 'tsb')
def test_segmenter_is_mmsegs(size):
    """Drop path and dropout of the mask transformer, and the last learning rate."""
    cfg = Config.fromfile(ROOT / f'configs/segmentation/segmenter_deit-{size}_8xb2-80k_pascal-context-480x480.py')
    head = cfg.model.decode_head
    defaults = inspect.signature(SegmenterMaskTransformerHead.__init__).parameters
    assert head.get('drop_path_rate', defaults['drop_path_rate'].default) == 0.1
    assert head.dropout_ratio == 0.0
    assert cfg.param_scheduler[0].eta_min == 1e-4


def test_norms_of_pvt_share_their_epsilon(pvt_cfg):
    norms = [module.eps for module in MODELS.build(pvt_cfg()).modules() if isinstance(module, nn.LayerNorm)]
    assert len(norms) > 12 and set(norms) == {1e-6}
