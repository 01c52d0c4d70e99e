# Copyright (c) MMMixPro contributors.
"""The inferencers of mmseg and mmdet with our configs: theirs as they are, and ours, which load strictly."""

import importlib.util
import warnings

import numpy as np
import pytest
import torch
from mmengine import fileio
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmseg.apis import MMSegInferencer
from mmseg.datasets import PascalContextDataset, PascalContextDataset59

from mmmixpro.apis import find_config
from mmmixpro.apis.segmentation import SegInferencer

DEIT = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
PVT = dict(
    embed_dims=[8, 8, 16, 16],
    num_layers=[1, 1, 1, 1],
    num_heads=[1, 1, 1, 1],
    mlp_ratios=[1, 1, 1, 1],
    sr_ratios=[8, 4, 2, 1],
)
LINEAR, SEGMENTER = (f'segmentation/{head}_deit-s_8xb2-80k_pascal-context-480x480' for head in ('linear', 'segmenter'))
DETECTOR = 'detection/mask-rcnn_pvt-s_fpn_1x_coco'
IMAGE = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
needs_ops = pytest.mark.skipif(importlib.util.find_spec('mmcv._ext') is None, reason="needs mmcv's compiled ops")


class Payload:
    def __reduce__(self):
        return exec, ('raise SystemExit',)


def small(name):
    """A config, its model as narrow and flat as it can be; its backbone's checkpoint is nowhere."""
    cfg = Config.fromfile(find_config(name))
    if name == DETECTOR:
        cfg.model.backbone.arch = PVT
        cfg.model.neck.in_channels = PVT['embed_dims']
        cfg.test_dataloader.dataset.pipeline[1].scale = (160, 128)
        cfg.model.test_cfg.rcnn.score_thr = 0.0
    else:
        cfg.model.backbone.arch = DEIT
        cfg.model.decode_head.update(in_channels=16, channels=16)
        if name == SEGMENTER:
            cfg.model.decode_head.update(embed_dims=16, num_heads=2)
    return cfg


@pytest.fixture
def trained(redraw, tmp_path):
    """A config, and what a run of it saves."""

    def trained(name, **meta):
        cfg = small(name)
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            model = MODELS.build(cfg.model)
        if name != DETECTOR:  # which finds nothing then
            redraw(model)
        path = str(tmp_path / 'x.pth')
        torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
        return cfg, path, model.eval()

    return trained


@pytest.mark.parametrize('name', [LINEAR, SEGMENTER])
def test_segmentation(name, trained, tmp_path):
    classes, palette = [f'class {i}' for i in range(60)], [[i, i, i] for i in range(60)]
    cfg, path, model = trained(name, dataset_meta=dict(classes=classes, palette=palette))
    found = {}
    for inferencer in (MMSegInferencer, SegInferencer):
        infer = inferencer(cfg.copy(), path, device='cpu')
        assert infer.model.dataset_meta == dict(classes=classes, palette=palette)
        state = model.state_dict()
        assert all(torch.equal(value, state[key]) for key, value in infer.model.state_dict().items())
        found[inferencer] = infer(IMAGE, return_datasamples=True).seg_logits.data
        assert infer(IMAGE, out_dir=str(tmp_path / inferencer.__name__))['predictions'].shape == (60, 90)
        assert len(list((tmp_path / inferencer.__name__).rglob('*.png'))) == 1
    assert found[SegInferencer].shape == (60, 60, 90) and found[SegInferencer].std() > 0
    assert torch.equal(found[SegInferencer], found[MMSegInferencer])


def test_names_and_colours_of_the_config(trained):
    cfg, path, _ = trained(LINEAR)
    with warnings.catch_warnings():
        warnings.filterwarnings('error', message='.*(itysc|class names).*')
        infer = SegInferencer(cfg, path, device='cpu')
    assert infer.model.dataset_meta['classes'][:3] == ('background', 'aeroplane', 'bag')
    assert infer.visualizer.dataset_meta['classes'] == infer.model.dataset_meta['classes']
    assert len(infer.visualizer.dataset_meta['palette']) == 60
    infer = SegInferencer(cfg, path, device='cpu', dataset_name='ade20k')
    assert len(infer.visualizer.dataset_meta['palette']) == 150


def test_the_checkpoint_is_read_once_and_strictly(trained, monkeypatch, capsys):
    cfg, path, _ = trained(LINEAR)
    # Of which mmengine's loader, which warns of them, has no use: only methods of training have.
    saved = torch.load(path)
    saved['state_dict']['labels.factor'] = torch.ones(1)
    torch.save(saved, path)
    read = []
    get = fileio.get
    monkeypatch.setattr(fileio, 'get', lambda file, **kwargs: read.append(file) or get(file, **kwargs))
    SegInferencer(cfg, path, device='cpu')
    assert read == [path]
    assert 'unexpected key' not in capsys.readouterr().out


@pytest.mark.parametrize(
    'wrap',
    [
        lambda dataset: dict(type='RepeatDataset', times=2, dataset=dataset),
        lambda dataset: dict(type='ConcatDataset', datasets=[dict(type='RepeatDataset', times=2, dataset=dataset)]),
        lambda dataset: dict(dataset, type=PascalContextDataset),
        lambda dataset: dict(dataset, type=PascalContextDataset59, metainfo=PascalContextDataset.METAINFO),
    ],
    ids=['repeated', 'joined', 'class', 'metainfo'],
)
def test_names_and_colours_of_datasets_in_wrappers(wrap, trained):
    cfg, path, _ = trained(LINEAR)
    cfg.test_dataloader.dataset = wrap(cfg.test_dataloader.dataset)
    before = cfg.to_dict()
    infer = SegInferencer(cfg, path, device='cpu')
    assert infer.model.dataset_meta == PascalContextDataset.METAINFO
    assert infer(IMAGE)['predictions'].shape == (60, 90)
    assert cfg.to_dict() == before


def test_without_any_names(trained):
    """mmseg's then says what it takes instead."""
    cfg, path, _ = trained(LINEAR)
    cfg.test_dataloader.dataset.type = 'BaseSegDataset'
    with pytest.warns(UserWarning, match='use classes of Cityscapes by default'):
        SegInferencer(cfg, path, device='cpu')


def test_segmentation_is_strict(trained, tmp_path):
    cfg, path, _ = trained(LINEAR)
    saved = torch.load(path)
    with pytest.raises(ValueError, match=r'missing in the checkpoint \(\d+\): decode_head\.'):
        SegInferencer(small(SEGMENTER), path)
    with pytest.raises(FileNotFoundError, match=r"No checkpoint at 'nowhere\.pth'"):
        SegInferencer(cfg, 'nowhere.pth')
    del saved['state_dict']['backbone.cls_token']
    torch.save(saved, path)
    with pytest.raises(ValueError, match=r'missing in the checkpoint \(1\): backbone\.cls_token\n'):
        SegInferencer(cfg, path)
    torch.save({**saved, 'meta': Payload()}, path)
    with pytest.raises(ValueError, match='carries code'):
        SegInferencer(cfg, path)
    with pytest.raises(ValueError, match="No config is named 'linear'"):
        SegInferencer('linear', path)


@needs_ops
def test_detection(trained, tmp_path):
    from mmdet.apis import DetInferencer as Stock

    from mmmixpro.apis.detection import DetInferencer

    cfg, path, model = trained(DETECTOR, dataset_meta=dict(CLASSES=['x'] * 80, PALETTE=[(1, 2, 3)] * 80))
    found = {}
    for inferencer in (Stock, DetInferencer):
        infer = inferencer(cfg.copy(), path, device='cpu')
        state = model.state_dict()
        assert all(torch.equal(value, state[key]) for key, value in infer.model.state_dict().items())
        assert infer.model.dataset_meta['classes'] == ['x'] * 80
        out = tmp_path / inferencer.__module__
        (found[inferencer],) = infer(IMAGE, out_dir=str(out))['predictions']
        assert len(list(out.rglob('*.jpg'))) == 1
    assert len(found[Stock]['scores']) > 0
    assert found[Stock]['bboxes'] == found[DetInferencer]['bboxes']
    del (saved := torch.load(path))['state_dict']['backbone.stages.0.pos_embed']
    torch.save(saved, path)
    with pytest.raises(ValueError, match=r'missing in the checkpoint \(1\): backbone\.stages\.0\.pos_embed\n'):
        DetInferencer(cfg, path)
