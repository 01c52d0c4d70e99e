# Copyright (c) MMMixPro contributors.
"""Multi-scale and flip testing against its definition, written out view by view."""

import json
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmseg.models import SegTTAModel
from oracles.resize import linear
from PIL import Image

import mmmixpro  # noqa: F401

TOOL = Path(__file__).parents[2] / 'tools/test.py'
MEAN, STD = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
RATIOS = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
LEAVES = {
    60: 'segmentation/linear_deit-s_8xb2-80k_pascal-context-480x480.py',
    59: 'segmentation/segmenter_deit-s_8xb2-80k_pascal-context-59-480x480.py',
}


def resized(maps, height, width):
    """``(C, h, w)`` to ``(C, height, width)``, bilinearly."""
    rows, columns = linear(maps.shape[1], height), linear(maps.shape[2], width)
    return np.einsum('yi,cij,xj->cyx', rows, maps, columns, optimize=True)


def places(length, window, stride):
    """Where windows begin: one stride apart, the last one moved back to the edge."""
    last = max(length - window, 0)
    return [min(place, last) for place in range(0, last + stride, stride)] if last else [0]


def logits_of_view(model, image, window, stride):
    """``(C, h, w)`` of an RGB image: padded to whole patches, then windows whose overlaps are averaged."""
    h, w, _ = image.shape
    padded = np.zeros((3, -(-h // 16) * 16, -(-w // 16) * 16))
    padded[:, :h, :w] = ((image - MEAN) / STD).transpose(2, 0, 1)
    total, count = 0.0, np.zeros(padded.shape[1:])
    for top in places(padded.shape[1], window, stride):
        for left in places(padded.shape[2], window, stride):
            crop = padded[:, top : top + window, left : left + window]
            with torch.no_grad():
                small = model.decode_head(model.backbone(torch.tensor(crop[None], dtype=torch.float32)))[0]
            part = np.zeros((len(small), *padded.shape[1:]))
            area = np.s_[top : top + crop.shape[1], left : left + crop.shape[2]]
            part[:, area[0], area[1]] = resized(small.double().numpy(), *crop.shape[1:])
            total, count[area] = total + part, count[area] + 1
    return (total / count)[:, :h, :w]


def views(model, image, side, window, stride):
    """Of each scale, plain and mirrored, the logits at the image's size, not yet mirrored back."""
    h, w, _ = image.shape
    for ratio in RATIOS:
        # The longer side as the config says, for the shorter would be longer than it.
        factor = round(side * ratio) / max(h, w)
        small = cv2.resize(image, (int(w * factor + 0.5), int(h * factor + 0.5)), interpolation=cv2.INTER_LINEAR)
        for flip in (False, True):
            logits = logits_of_view(model, small[:, ::-1] if flip else small, window, stride)
            yield ratio, flip, resized(logits, h, w)


def softmax(logits):
    e = np.exp(logits - logits.max(0))
    return e / e.sum(0)


def mean_iou(prediction, truth, classes):
    """In percent, over the classes that are there or predicted."""
    counts = truth != 255
    ious = []
    for c in range(classes):
        predicted, true = (prediction == c) & counts, (truth == c) & counts
        if (predicted | true).any():
            ious.append((predicted & true).sum() / (predicted | true).sum())
    return 100 * np.mean(ious)


@pytest.fixture
def tested(tmp_path, monkeypatch, load_config, shrink_images, deit, pascal_context, build):
    """What ``tools/test.py --tta`` predicts and reports, and the model of whose weights it does so."""

    def tested(name):
        cfg = shrink_images(load_config(name, deit))
        for split in ('val', 'test'):
            cfg[f'{split}_dataloader'].num_workers = 0
        model = build(cfg).eval()
        for name, weight in model.named_parameters():
            if weight.ndim > 1:  # so large that what is predicted hangs on the image
                torch.nn.init.normal_(weight, std=0.0 if 'pos_embed' in name else weight[0].numel() ** -0.5)
        torch.save(dict(state_dict=model.state_dict()), tmp_path / 'model.pth')
        cfg.dump(tmp_path / 'config.py')
        monkeypatch.setattr(Config, 'pretty_text', '')  # for the log alone, and slow

        predictions = []
        merge = SegTTAModel.merge_preds

        def recorded(self, samples):
            predictions.extend(len(views) for views in samples)
            merged = merge(self, samples)
            predictions.extend(sample.pred_sem_seg.data.numpy() for sample in merged)
            return merged

        monkeypatch.setattr(SegTTAModel, 'merge_preds', recorded)
        metrics = tmp_path / 'metrics.json'
        args = [tmp_path / 'config.py', tmp_path / 'model.pth', '--tta', '--out', metrics, '--work-dir', tmp_path / 'w']
        monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, args)])
        runpy.run_path(str(TOOL), run_name='__main__')
        count, prediction = predictions
        assert count == 12
        return model, prediction.reshape(150, 200), json.loads(metrics.read_text())['mIoU']

    return tested


@pytest.mark.parametrize('classes', LEAVES)
def test_mean_of_the_views(classes, tested, pascal_context):
    model, prediction, miou = tested(LEAVES[classes])
    image = cv2.imread(str(pascal_context / 'JPEGImages/val_0.jpg'))[:, :, ::-1].copy()
    seen = list(views(model, image, side=104, window=96, stride=64))

    def mean(ratios=RATIOS, flips=(False, True), back=-1, scores=softmax):
        """The classes by the mean over some views, by default all, mirrored back."""
        chosen = [x[:, :, :: back if flip else 1] for ratio, flip, x in seen if ratio in ratios and flip in flips]
        return np.mean([scores(logits) for logits in chosen], axis=0).argmax(0)

    # Sums in another order: a pixel between two classes may fall to either.
    assert (prediction == mean()).mean() > 0.999
    truth = np.asarray(Image.open(pascal_context / 'SegmentationClassContext/val_0.png'))
    truth = truth if classes == 60 else np.where(truth == 0, 255, truth - 1)
    assert miou == pytest.approx(mean_iou(prediction, truth, classes), abs=0.006)

    # Other definitions, of which each would show.
    assert len(np.unique(prediction)) > 5
    assert (prediction == mean(ratios=[1.0], flips=[False])).mean() < 0.9
    assert (prediction == mean(flips=[False])).mean() < 0.9
    assert (prediction == mean(ratios=[1.0])).mean() < 0.9
    assert (prediction == mean(back=1)).mean() < 0.9
    assert (prediction == mean(scores=lambda logits: logits)).mean() < 0.9
