# Copyright (c) MMMixPro contributors.
"""From a run by tools/train.py to the picture."""

import json
from xml.etree import ElementTree

import cv2
import pytest


@pytest.fixture(scope='module')
def run(tiny):
    """A run of the default runtime, which logs mixing without being asked."""
    tiny.tool('train.py', tiny.config, '--work-dir', 'plotted', '--no-validate')
    return tiny.folder / 'plotted'


def test_from_training_to_the_picture(tiny, run):
    lines = [json.loads(line) for path in run.glob('*/vis_data/scalars.json') for line in path.read_text().splitlines()]
    assert len(lines) == 24
    assert all({'mix/acc', 'mix/share_MixProBatchAugment', 'mix/share_Mixup'} <= line.keys() for line in lines)
    assert {line['mix/share_Mixup'] for line in lines} == {0, 1}
    assert all(('mix/alpha' in line) == (line['mix/share_Mixup'] == 0) for line in lines)
    tiny.tool('analysis/plot_pal.py', run, '--out', 'deep/alpha.svg')
    text = ''.join(ElementTree.parse(tiny.folder / 'deep/alpha.svg').getroot().itertext())
    assert 'α: trust in attention' in text and 'MixProBatchAugment' in text
    tiny.tool('analysis/plot_pal.py', run, run, '--names', 'one', 'two', '--every', '4', '--out', 'two.png')
    assert cv2.imread(str(tiny.folder / 'two.png')).shape[1] == 1680


@pytest.mark.parametrize(
    ('args', 'error', 'message'),
    [
        (['nowhere'], FileNotFoundError, "Expected a training log .* in 'nowhere', found none"),
        (['plotted', 'plotted'], ValueError, 'Each of the 2 runs needs a name of its own'),
        (['plotted', '--names', 'a', 'b'], ValueError, 'Each of the 1 runs'),
        (['plotted', '--out', 'x.jpg'], ValueError, r"--out takes one of .svg, .png, .pdf, got 'x.jpg'"),
        (['plotted', '--every', '0'], ValueError, 'at least 1; got 0'),
    ],
)
def test_mistakes(tiny, run, args, error, message):
    with pytest.raises(error, match=message):
        tiny.tool('analysis/plot_pal.py', *args)


def test_log_without_mixing(tiny):
    options = [
        'model.type=ImageClassifier',
        'train_cfg.max_epochs=1',
        'custom_hooks=[]',
        'data_preprocessor.num_classes=2',
    ]
    tiny.tool('train.py', tiny.config, '--work-dir', 'stock', '--no-validate', '--cfg-options', *options)
    with pytest.raises(ValueError, match="'stock' tells nothing of mixing: .*MixProgressHook"):
        tiny.tool('analysis/plot_pal.py', 'stock')
