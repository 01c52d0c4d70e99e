# Copyright (c) MMMixPro contributors.
"""The robustness tool on the project's own suites, with a small model of ImageNet's classes."""

import json

import cv2
import numpy as np
import pytest
import robustness_sets
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS
from oracles import robustness as oracle

from mmmixpro.datasets.robustness.classes import wnids
from mmmixpro.datasets.robustness.imagenet_o import IMAGENET_O

CONFIG = """
_base_ = 'tiny.py'
model = dict(head=dict(num_classes=1000))
test_dataloader = dict(batch_size=200, dataset=dict(
    data_root='{imagenet}', data_prefix='val', indices=list(range(0, 1000, 25))))
"""
OPTIONS = ['occlusion.test_cfg.grid=4', 'occlusion.test_cfg.ratios=[0.0,0.5]']


def index(names):
    return [wnids().index(name) for name in names]


@pytest.fixture
def world(tiny):
    """All sets, with one image for each class, and a model that knows some of them."""
    images = np.random.default_rng(0).integers(0, 256, (1000, 2, 2, 3), np.uint8).repeat(16, 1).repeat(16, 2)
    for wnid, image in zip(wnids(), images, strict=True):
        (tiny.folder / f'imagenet/val/{wnid}').mkdir(parents=True)
        cv2.imwrite(str(tiny.folder / f'imagenet/val/{wnid}/0.png'), image)
    robustness_sets.link_sets(tiny.folder / 'sets', tiny.folder / 'imagenet', ['fog'], [5])
    config = tiny.config.parent / 'thousand.py'
    config.write_text(CONFIG.format(imagenet=tiny.folder / 'imagenet'))
    cfg = Config.fromfile(config, import_custom_modules=False)
    model = MODELS.build(dict(cfg.model, _scope_='mmpretrain', data_preprocessor=cfg.data_preprocessor)).eval()
    inputs = model.data_preprocessor(dict(inputs=torch.from_numpy(images).permute(0, 3, 1, 2)))['inputs']
    with torch.no_grad():
        for parameter in model.backbone.parameters():
            parameter.normal_(std=3 / parameter[0].numel() ** 0.5 if parameter.ndim > 1 else 0.5)
        features = model.extract_feat(inputs)[-1]
        # The nearest of all classes, of which each has moved, by less than to its neighbour.
        gap = torch.cdist(features, features).kthvalue(2).values.median()
        means = features + 0.2 * gap * torch.randn_like(features)
        model.head.layers.head.weight.copy_(2 * means / gap**2)
        model.head.layers.head.bias.copy_(-means.square().sum(1) / gap**2)
        scores = model.head(model.backbone(inputs)).softmax(1).double().numpy()
    torch.save(dict(state_dict=model.state_dict()), tiny.folder / 'thousand.pth')
    return tiny, config, scores


def test_the_projects_suites(world, monkeypatch, capsys):
    """Figures are those of the definitions, over the classes that each set has; what is missing is named."""
    tiny, config, scores = world
    monkeypatch.setenv('ROBUSTNESS_ROOT', 'set by the tool, and put back after the test')
    monkeypatch.setenv('IMAGENET_ROOT', str(tiny.folder / 'imagenet'))
    suites = 'imagenet-a,imagenet-o,imagenet-c,cifar100-c,calibration,occlusion'
    args = [config, 'thousand.pth', '--names', 'known', '--data', 'sets', '--suite', suites, '--out', 'out']
    tiny.tool('analysis/robustness.py', *args, '--suite-options', *OPTIONS)
    said = capsys.readouterr().out
    results = json.loads((tiny.folder / 'out/robustness.json').read_text())['models'][0]['suites']
    assert results.pop('cifar100-c')['status'] == 'skipped'
    assert {name: (result['status'], result['images']) for name, result in results.items()} == {
        'imagenet-a': ('done', 200), 'imagenet-o': ('done', 400), 'imagenet-c': ('done', 1000),
        'calibration': ('done', 40), 'occlusion': ('done', 40),
    }  # fmt: skip
    right = scores.argmax(1) == np.arange(1000)
    some = range(0, 1000, 25)
    clean = 100 * right[some].mean()
    assert 20 < clean < 100
    assert results['occlusion']['metrics']['occlusion/random/0'] == pytest.approx(clean)
    confidence = [max(scores[label]) for label in some]
    assert results['calibration']['metrics']['calibration/ece'] == pytest.approx(
        100 * oracle.ece(confidence, right[some], 15), abs=1e-3
    )

    natural = index(wnids('imagenet_a'))
    pairs = [oracle.most_likely(scores[label], natural) for label in natural]
    confidence = np.array([c for c, _ in pairs])
    hits = np.array([best == label for (_, best), label in zip(pairs, natural, strict=True)])
    assert results['imagenet-a']['metrics'] == {
        'imagenet-a/top1': pytest.approx(100 * np.mean(hits)),
        'imagenet-a/top1_all': pytest.approx(100 * right[natural].mean()),
        'imagenet-a/rms': pytest.approx(100 * oracle.rms(confidence, hits, 100), abs=1e-3),
        'imagenet-a/rms_hendrycks': pytest.approx(100 * oracle.rms_hendrycks(confidence, hits, 100), abs=1e-3),
        'imagenet-a/aurra': pytest.approx(100 * oracle.aurra_with_equals(confidence, hits), abs=1e-3),
    }
    # Among all 1000 they would be others.
    wide = [max(scores[label]) for label in natural]
    assert abs(oracle.rms(wide, right[natural], 100) - oracle.rms(confidence, hits, 100)) > 0.01

    # The same images are in and out of distribution.
    assert len(IMAGENET_O.split()) == 200
    assert results['imagenet-o']['metrics'] == {'imagenet-o/aupr': pytest.approx(50)}

    error = pytest.approx(100 - 100 * right.mean())
    assert results['imagenet-c']['metrics'] == {
        'corruption/fog': error, 'corruption/error': error,
    }  # fmt: skip
    page = (tiny.folder / 'out/robustness.html').read_text()
    (lacks,) = (warning for warning in results['imagenet-c']['warnings'] if 'lacks of ImageNet-C' in warning)
    assert 'gaussian_noise, shot_noise' in lacks and 'frost, fog/1, fog/2, fog/3, fog/4, brightness' in lacks
    assert lacks in said and lacks.replace("'", '&#39;') in page.split('<h2>How it was measured')[0]
    assert 'mean of 1 corruption ↓' in page and 'mean of 1 corruption ↓' in said
    assert 'known, imagenet-c: testing' in said and 'Salient patches dropped' in said
