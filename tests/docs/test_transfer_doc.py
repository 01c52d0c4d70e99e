# Copyright (c) MMMixPro contributors.
"""What docs/transfer.md says, done."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import mmseg
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmmixpro.apis import find_config, get_model
from mmmixpro.utils.export import export

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / 'docs/transfer.md').read_text()
BLOCKS = re.findall(r'```python\n(.*?)```', TEXT, re.DOTALL)
DEIT = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
PVT = dict(
    embed_dims=[8, 8, 16, 16],
    num_layers=[1, 1, 1, 1],
    num_heads=[1, 1, 1, 1],
    mlp_ratios=[1, 1, 1, 1],
    sr_ratios=[8, 4, 2, 1],
)
needs_ops = pytest.mark.skipif(importlib.util.find_spec('mmcv._ext') is None, reason="needs mmcv's compiled ops")
# As a stock tool does it: nothing is imported but what the config names.
BUILD = """
import json, sys
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

path, part, *changes = sys.argv[1:]
for change in changes:
    cfg = Config.fromfile(path)
    cfg.merge_from_dict(json.loads(change))
    if part == 'model':
        init_default_scope(cfg.default_scope)
    try:
        model = MODELS.build(cfg.model if part == 'model' else cfg.model[part])
        model.init_weights()
        torch.save((model.backbone if part == 'model' else model).state_dict(), 'loaded.pth')
        print('BUILT', type(model).__name__, cfg.optim_wrapper.optimizer.type)
    except (TypeError, ValueError) as error:
        print('REFUSED', type(error).__name__, str(error).replace('\\n', ' '))
"""


def block(word):
    (found,) = [text for text in BLOCKS if word in text]
    return found


def tiny_checkpoint(name, arch, redraw, path):
    model = redraw(get_model(name, backbone=dict(arch=dict(arch, _delete_=True)), head=dict(in_channels=16)))
    torch.save(dict(state_dict=model.state_dict()), path)
    return model.backbone.state_dict()


def build(config, part, folder, *changes):
    """Build the config with each of the changes; returns a line for each."""
    run = subprocess.run(
        [sys.executable, '-c', BUILD, str(config), part, *map(json.dumps, changes)],
        cwd=folder,
        env={'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', 'HOME': str(folder), 'PATH': '/usr/bin:/bin'},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return [line for line in run.stdout.splitlines() if line.startswith(('BUILT', 'REFUSED'))]


@pytest.mark.parametrize('part', ['backbone', pytest.param('model', marks=needs_ops)])
def test_ten_lines_for_mmdet(part, tmp_path, redraw):
    text = block('mmdet::')
    assert len(text.splitlines()) <= 10
    config = tmp_path / 'mine.py'
    config.write_text(text)
    stored = tiny_checkpoint('pvt-s', PVT, redraw, tmp_path / 'pvt-s.pth')
    small = {'model.backbone.arch': dict(PVT, _delete_=True), 'model.neck.in_channels': PVT['embed_dims']}
    # As it stands in the text, it is of another size than the checkpoint.
    built, refused = build(config, part, tmp_path, small, {})
    assert built == f'BUILT {dict(backbone="PVT", model="MaskRCNN")[part]} AdamW'
    assert refused.startswith('REFUSED ValueError Cannot load pvt-s.pth')
    loaded = torch.load(tmp_path / 'loaded.pth')
    stored['stages.3.pos_embed'] = stored['stages.3.pos_embed'][:, 1:]
    assert stored.keys() - loaded.keys() == {'cls_token', 'norm.weight', 'norm.bias'}
    assert all(torch.equal(value, stored[key]) for key, value in loaded.items())


@pytest.fixture
def mmseg_config(tmp_path):
    """The lines for mmseg, beside mmseg's own configs."""
    configs = Path(mmseg.__file__).parent / '.mim/configs'
    shutil.copytree(configs / 'segmenter', tmp_path / 'segmenter')
    (tmp_path / '_base_').symlink_to((configs / '_base_').resolve())
    config = tmp_path / 'segmenter/mine.py'
    config.write_text(block('segmenter_vit-s_mask'))
    return config


def test_ten_lines_for_mmseg(mmseg_config, tmp_path, redraw):
    assert len(mmseg_config.read_text().splitlines()) <= 10
    stored = tiny_checkpoint('deit-s', DEIT, redraw, tmp_path / 'deit-s.pth')
    head = {f'model.decode_head.{key}': 16 for key in ('in_channels', 'channels', 'embed_dims')}
    small = {'model.backbone.arch': dict(DEIT, _delete_=True), **head, 'model.decode_head.num_heads': 2}
    built, refused = build(mmseg_config, 'model', tmp_path, small, {})
    assert built.startswith('BUILT EncoderDecoder')
    assert refused.startswith('REFUSED ValueError Cannot load deit-s.pth')
    loaded = torch.load(tmp_path / 'loaded.pth')
    assert loaded.keys() == stored.keys()
    assert all(torch.equal(loaded[key], stored[key]) for key in stored if key != 'pos_embed')
    assert loaded['pos_embed'].shape == (1, 1 + 32 * 32, 16)


def test_without_the_import_the_ten_lines_are_refused(mmseg_config, tmp_path):
    mmseg_config.write_text(mmseg_config.read_text().replace("['mmmixpro']", "['mmpretrain.models']"))
    (refused,) = build(mmseg_config, 'backbone', tmp_path, {})
    assert refused.startswith('REFUSED TypeError') and "unexpected keyword argument 'strict'" in refused


@pytest.fixture
def exported(tmp_path, monkeypatch):
    """The files that the text begins with."""
    monkeypatch.chdir(tmp_path)
    torch.save(get_model('mixpro/deit-s').state_dict(), 'epoch_300.pth')
    config = str(find_config('mixpro/deit-s'))
    export(config, 'epoch_300.pth', ['deit-s.pth', 'deit-s.safetensors'])
    export(config, 'epoch_300.pth', ['deit-s_classifier.pth'], 'classifier')
    cv2.imwrite('cat.jpg', np.random.randint(0, 256, (100, 130, 3), dtype=np.uint8))
    return tmp_path


def test_models_and_inferencers(exported, capsys):
    names = {}
    exec(block('ClassificationInferencer'), names)
    printed = capsys.readouterr().out.splitlines()
    assert "'mixpro/deit-s_8xb128_in1k'" in printed[0] and printed[-1].endswith('(14, 14)')
    assert names['features'].extract_feat(torch.rand(1, 3, 224, 224))[-1].shape == (1, 384)
    assert (exported / 'drawn/cat.png').is_file()
    # The line that the text shows of the log.
    (line,) = re.findall(r'```\n(Loaded .*?)\n```', TEXT, re.DOTALL)
    assert f'{len(names["features"].backbone.state_dict())} of' in line


def test_segmentation(exported):
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(
            Config.fromfile(find_config('segmentation/linear_deit-s_8xb2-80k_pascal-context-480x480')).model
        )
    torch.save(dict(state_dict=model.state_dict()), 'iter_80000.pth')
    names = {}
    exec(block('SegInferencer('), names)
    assert names['classes_of_pixels'].shape == (100, 130)
    assert list((exported / 'drawn').rglob('*.jpg'))


@pytest.mark.parametrize('document', ['docs/transfer.md', 'configs/README.md'])
def test_methods_that_are_compared_share_no_folder(document, tmp_path):
    blocks = re.findall(r'```bash\n(.*?)```', (ROOT / document).read_text(), re.DOTALL)
    (loop,) = [text for text in blocks if 'MIXPRO_CHECKPOINT=' in text and 'segmenter' in text]
    (tmp_path / 'tools').mkdir()
    for name in ('train', 'test'):
        script = tmp_path / f'tools/dist_{name}.sh'
        script.write_text(f'#!/bin/sh\necho "{name} $MIXPRO_CHECKPOINT $*" >> runs.txt')
        script.chmod(0o755)
    subprocess.run(['bash', '-e', '-c', loop], cwd=tmp_path, check=True)
    runs = [line.split() for line in (tmp_path / 'runs.txt').read_text().splitlines()]
    trained = {checkpoint: rest[-1] for kind, checkpoint, *rest in runs if kind == 'train' and '--work-dir' in rest}
    assert len(trained) == len(set(trained.values())) == 4
    tested = {str(Path(rest[1]).parent) for kind, *rest in runs if kind == 'test'}
    assert tested in (set(), set(trained.values()))


def test_every_file_that_is_named_exists():
    files = set(re.findall(r'(?:configs|tools)/[\w./-]+\.(?:py|sh)', TEXT))
    assert len(files) > 8
    assert not [file for file in files if not (ROOT / file).is_file()]
