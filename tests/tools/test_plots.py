# Copyright (c) MMMixPro contributors.
"""From a run by tools/train.py and its checkpoint to the pictures."""

import json
import re
from xml.etree import ElementTree

import mmcv
import pytest
from mmpretrain.datasets import CustomDataset
from mmpretrain.registry import DATASETS


@pytest.fixture(scope='module')
def run(tiny):
    tiny.tool('train.py', tiny.config, '--work-dir', 'run')
    return tiny.folder / 'run'


@pytest.fixture
def draw(tiny, capsys):
    """Run a tool; gives the texts of its SVG and what it printed."""

    def draw(tool, *args):
        tiny.tool(f'analysis/plot_{tool}.py', *args, '--out', 'deep/drawn.svg')
        root = ElementTree.parse(tiny.folder / 'deep/drawn.svg').getroot()
        assert list((tiny.folder / 'deep').iterdir()) == [tiny.folder / 'deep/drawn.svg']
        return [''.join(text.itertext()) for text in root.iter() if text.tag.endswith('text')], capsys.readouterr().out

    return draw


def test_generalization(run, draw):
    texts, _ = draw('generalization', run, run, '--names', 'first', 'second')
    assert {'training loss', 'top-1 error (%)', 'epoch', 'first', 'second'} <= set(texts)


def test_alpha_by_epoch(run, draw):
    texts, _ = draw('pal', run, '--by-epoch')
    assert 'α: trust in attention, mean ± std' in texts and 'epoch' in texts and 'iteration' not in texts


def test_ablation(tiny, run, draw):
    (tiny.folder / 'two.json').write_text(json.dumps({'accuracy/top1': 33.25}))
    texts, said = draw('ablation', '--scale', run, '2=two.json', '--beta', run, '--baseline', 'two.json')
    # Cells of 8 px are one token.
    assert re.search(r'scale 1: .* % \(.*run\)', said) and 'scale 2: 66.75 % (two.json)' in said
    assert re.search(r'beta 1: .* % \(.*run\)', said)
    assert {'side of a cell, in tokens', 'β of the Beta distribution', 'MixPro', 'baseline', '2'} <= set(texts)


def test_occlusion(tiny, draw):
    for name in ('one', 'two'):
        metrics = {f'occlusion/random/{percent}': 50 - percent / 4 for percent in (0, 50, 100)}
        suites = dict(occlusion=dict(status='done', metrics=metrics, note=f'salient by {name}', warnings=[]))
        record = dict(models=[dict(name=name, suites=suites)], suites=['occlusion'])
        (tiny.folder / f'{name}.json').write_text(json.dumps(record))
    texts, said = draw('occlusion', 'one.json', 'two.json')
    assert {'Random patches dropped: top-1 (%)', 'patches dropped (%)', 'one', 'two'} <= set(texts)
    assert 'one: salient by one.' in said
    with pytest.raises(ValueError, match='different names'):
        draw('occlusion', 'one.json', 'one.json')


def test_attention(tiny, run, draw):
    texts, _ = draw('attention', tiny.config, 'run/epoch_3.pth', '--num', 3)
    assert {'image', 'partner', 'mixed', 'attention'} <= set(texts)
    assert sum(text.startswith('λ area') for text in texts) == 3
    # Pixels are in the file.
    svg = (tiny.folder / 'deep/drawn.svg').read_text()
    assert svg.count('xlink:href="data:image/png;base64') >= 3 * 4
    assert not re.search(r'xlink:href="(?!data:|#)', svg)


class InMemory(CustomDataset):
    """Brings its images along in RGB, as CIFAR does."""

    def get_data_info(self, idx):
        info = super().get_data_info(idx)
        return dict(info, img=mmcv.imread(info.pop('img_path'), channel_order='rgb'))


IN_MEMORY = """
_base_ = 'tiny.py'
data_preprocessor = dict(to_rgb=False)
test_dataloader = dict(dataset=dict(type='InMemory', pipeline=_base_.test_pipeline[1:]))
"""


def test_images_in_memory_keep_their_colours(tiny, run, draw):
    """What the model sees is the same, and so is the picture."""
    DATASETS.register_module(name='InMemory', module=InMemory, force=True)
    own = tiny.config.with_name('in_memory.py')
    own.write_text(IN_MEMORY)
    pictures = []
    for config in (tiny.config, own):
        draw('attention', config, 'run/epoch_3.pth', '--num', 2)
        pictures.append(re.findall('data:image/png;base64,([^"]*)"', (tiny.folder / 'deep/drawn.svg').read_text()))
    DATASETS.module_dict.pop('InMemory')
    assert len(pictures[0]) >= 8
    assert pictures[0] == pictures[1]


def test_alpha_of_a_mini_batch(tiny, run, draw):
    def alpha(*args):
        texts, said = draw('alpha', tiny.config, 'run/epoch_3.pth', '--num', 16, *args)
        assert 'α of each image in a mini-batch' in texts
        return [float(value) for value in re.search(r'Mean: (\S+), from (\S+) to (\S+)', said).groups()]

    mean, least, most = alpha()
    assert 0 <= least < mean < most <= 1
    assert alpha() == [mean, least, most]
    assert alpha('--seed', 1) != [mean, least, most]


@pytest.mark.parametrize(
    ('tool', 'args', 'error', 'message'),
    [
        ('generalization', ['run', '--out', 'x.jpg'], ValueError, r'--out takes one of .svg, .png, .pdf'),
        ('generalization', ['run', '--columns', '0'], ValueError, '--columns .* at least 1; got 0'),
        ('generalization', ['run', 'run'], ValueError, 'Each of the 2 runs needs a name of its own'),
        ('ablation', ['--scale', 'x=run'], ValueError, "VALUE=RUN with a number, got 'x=run'"),
        ('ablation', [], SystemExit, '2'),
        ('occlusion', ['none.json'], FileNotFoundError, r"found no \['none.json'\]"),
        ('alpha', ['{config}', 'run/epoch_3.pth', '--num', '1'], ValueError, 'at least 2'),
        ('alpha', ['{config}', 'run/epoch_3.pth', '--num', '99'], ValueError, 'expected 99 images .* found 32'),
        ('attention', ['{config}', 'none.pth'], FileNotFoundError, "No checkpoint at 'none.pth'"),
    ],
)
def test_mistakes(tiny, run, tool, args, error, message):
    with pytest.raises(error, match=message):
        tiny.tool(f'analysis/plot_{tool}.py', *[arg.format(config=tiny.config) for arg in args])
