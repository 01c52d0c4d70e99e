# Copyright (c) MMMixPro contributors.
import runpy
import sys
from pathlib import Path

import pytest
import torch
from mmpretrain.registry import MODELS
from torch import nn

TOOLS = Path(__file__).resolve().parents[2] / 'tools/model_converters'


@pytest.fixture
def made(backbone_cfg, redraw, tmp_path):
    """A config, and weights of its model."""

    def made(family, head=None, num_classes=7, **kwargs):
        backbone = backbone_cfg(family, **kwargs)
        head = head or ('VisionTransformerClsHead' if family == 'vit' else 'LinearClsHead')
        head = dict(type=head, num_classes=num_classes, in_channels=32)
        config = tmp_path / f'{family}.py'
        config.write_text(f'model = dict(type="ImageClassifier", backbone={backbone!r}, head={head!r})')
        model = nn.ModuleDict(dict(backbone=MODELS.build(backbone), head=MODELS.build(head)))
        return str(config), redraw(model).state_dict()

    return made


@pytest.fixture
def save(tmp_path):
    def save(content, name='source.pth', **kwargs):
        torch.save(content, tmp_path / name, **kwargs)
        return str(tmp_path / name)

    return save


@pytest.fixture
def tool(monkeypatch):
    """Runs one of tools/model_converters."""

    def tool(name, *args):
        monkeypatch.setattr(sys, 'argv', [name, *map(str, args)])
        runpy.run_path(str(TOOLS / name), run_name='__main__')

    return tool
