# Copyright (c) MMMixPro contributors.
"""Every method on one sheet: what is drawn and written equals what the oracles make of the same pixels."""

import re
import runpy
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import BATCH_AUGMENTS, MODELS
from oracles.attention import softmax
from oracles.labels import cosine, lambda_attention
from oracles.mixing import lambda_area
from torch.nn.functional import avg_pool2d

from mmmixpro.attention import class_attention
from mmmixpro.datasets.scenes import CLASSES
from mmmixpro.mixing import BatchMixer
from mmmixpro.mixing.teacher import FrozenClassifier, FrozenTeacher
from mmmixpro.visualization import sheet

ROOT = Path(__file__).resolve().parents[2]
MINI = ROOT / 'configs/demo/deit_shapes.py'
STOCK = {'Mixup', 'CutMix'}


def browse(*args):
    """Run the tool; give the pairs that it draws, and what it says."""
    drawn = []

    def draw_sheet(pairs, masks=False):
        drawn.append(pairs)
        return original(pairs, masks)

    original = sheet.draw_sheet
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sheet, 'draw_sheet', draw_sheet)
        patch.setattr(sys, 'argv', ['browse_mix.py', *map(str, args)])
        patch.delenv('ATTENTIVE_CUTMIX_TEACHER', raising=False)
        runpy.run_path(str(ROOT / 'tools/visualization/browse_mix.py'), run_name='__main__')
    return drawn[0]


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A checkpoint of the small DeiT with weights that decide, and the model."""
    torch.manual_seed(0)
    cfg = Config.fromfile(MINI)
    model = MODELS.build(dict(type='mmpretrain.ImageClassifier', backbone=cfg.model.backbone, head=cfg.model.head))
    with torch.no_grad():
        for name, param in model.named_parameters():
            param.normal_(std=3 / param[0].numel() ** 0.5 if param.ndim > 1 else 0.5)
            if name.startswith('head'):
                param /= 4
    path = tmp_path_factory.mktemp('browse') / 'model.pth'
    torch.save(dict(state_dict=model.state_dict()), path)
    return path, model.eval()


@pytest.fixture(scope='module')
def sheet_of_all(trained, tmp_path_factory):
    """Pairs under all methods, and what the tool said; the teacher sees what is bright."""
    out = tmp_path_factory.mktemp('browse') / 'deep/sheet.png'
    said = StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said):
        patch.setattr(FrozenTeacher, 'init_weights', lambda self: None)
        patch.setattr(FrozenTeacher, '__call__', lambda self, images: avg_pool2d(images, 8))
        patch.setattr(FrozenClassifier, 'activation', lambda self, images, *_: avg_pool2d(images, 8).mean(1).exp())
        pairs = browse('--config', MINI, '--checkpoint', trained[0], '--num', 2, '--out', out)
    height, width, _ = cv2.imread(str(out)).shape
    assert width > 200 * 1.3 * len(pairs[0].mixed)
    assert height > 200 * 1.3 * 4
    return pairs, said.getvalue()


@pytest.fixture(scope='module')
def pairs(sheet_of_all):
    return sheet_of_all[0]


def test_every_mixer_with_configs_has_its_column_or_a_reason(sheet_of_all):
    pairs, said = sheet_of_all
    leaves = [Config.fromfile(path) for path in ROOT.glob('configs/*/deit-s_8xb128_in1k.py')]
    augments = [augment.type for leaf in leaves for augment in leaf.model.get('train_cfg', {}).get('augments', [])]
    with_folder = {name for name in augments if issubclass(BATCH_AUGMENTS.get(name), BatchMixer)}
    drawn = set(pairs[0].mixed)
    told = set()
    for name in (drawn | set(re.findall(r'Left out: (\w+)\. .*(?:teacher|package)', said))) - STOCK:
        config = Config.fromfile(ROOT / f'configs/{name}/deit-s_8xb128_in1k.py')
        told |= {augment['type'] for augment in config.model.train_cfg.augments} - STOCK
    assert told == with_folder
    assert drawn >= {
        'attentive_cutmix',
        'gridmix',
        'mixpro',
        'puzzlemix',
        'saliencymix',
        'smmix',
        'tokenmix',
        'transmix',
        *STOCK,
    }


def test_mixed_images_are_their_masks(pairs):
    for pair in pairs:
        own, partner = pair.images.astype(float)
        assert len(set(pair.names)) == 2
        for name, mixed in pair.mixed.items():
            size = own.shape[:2]
            mask = np.kron(mixed.mask.astype(float), np.ones((mixed.cell, mixed.cell)))[: size[0], : size[1], None]
            if name == 'smmix':  # moves its region; around it all stays
                keep = mask[..., 0] == 1
                np.testing.assert_array_equal(mixed.image[keep], pair.images[0][keep])
                side = int(round((~keep).sum() ** 0.5))
                region = mixed.image[~keep].reshape(side, side, 3)
                windows = np.lib.stride_tricks.sliding_window_view(pair.images[1], (side, side, 3))[:, :, 0]
                assert (windows == region).all((2, 3, 4)).any()
            else:
                np.testing.assert_allclose(mixed.image, mask * own + (1 - mask) * partner, rtol=0, atol=1)
            assert mixed.values['λ area'] == pytest.approx(lambda_area(mask[..., 0]), abs=1e-3)
            assert 0.05 < mixed.values['λ area'] < 0.95


def test_numbers_are_those_of_the_model(pairs, trained):
    preprocess = Config.fromfile(MINI).data_preprocessor
    mean, std = (torch.tensor(preprocess[key])[:, None, None] for key in ('mean', 'std'))
    for pair in pairs:
        own, partner = np.eye(10)[[CLASSES.index(name) for name in pair.names]]
        for name, mixed in pair.mixed.items():
            image = (torch.from_numpy(mixed.image).permute(2, 0, 1) - mean) / std
            with torch.no_grad(), class_attention(trained[1].backbone, (64, 64)) as tap:
                logits = trained[1].head(trained[1].backbone(image[None]))[0].numpy()
            attention = tap.map[0].numpy()
            # Blended pixels are rounded to be shown.
            tolerance = 0.05 if name in ('Mixup', 'puzzlemix') else 1e-4
            np.testing.assert_allclose(mixed.attention, attention, rtol=0, atol=tolerance)
            mask = np.kron(mixed.mask.astype(float), np.ones((mixed.cell, mixed.cell)))
            nearest = name == 'transmix'
            share = lambda_attention(attention, mask, nearest)
            values, area = mixed.values, lambda_area(mask)
            assert values['λ attn'] == pytest.approx(share, abs=max(tolerance, 1e-3))
            assert ('α' in values) == (name == 'mixpro')
            expected = area
            if name == 'mixpro':
                alpha = cosine(softmax(logits), area * own + (1 - area) * partner)
                assert values['α'] == pytest.approx(alpha, abs=1e-3)
                expected = alpha * share + (1 - alpha) * area
            if name == 'transmix':
                expected = (area + share) / 2
            if name in STOCK:
                assert 'λ' not in values
            elif 'λ' in values:
                assert values['λ'] == pytest.approx(expected, abs=1e-3)
            else:  # two weights that do not sum to 1
                assert {'λ own', 'λ partner'} <= values.keys()


def test_same_seed_same_sheet(pairs, trained, tmp_path):
    args = ['--config', MINI, '--checkpoint', trained[0], '--num', 1, '--out', tmp_path / 'x.png']
    methods = ['--methods', 'mixpro', 'CutMix']
    (again,) = browse(*args, *methods)
    assert list(again.mixed) == ['mixpro', 'CutMix']
    np.testing.assert_array_equal(again.mixed['mixpro'].image, pairs[0].mixed['mixpro'].image)
    (other,) = browse(*args, *methods, '--seed', 1)
    assert not np.array_equal(other.images, again.images)
    assert not np.array_equal(other.mixed['CutMix'].mask, again.mixed['CutMix'].mask)


def test_mask_strategies_without_checkpoint(tmp_path, capsys):
    args = ['--config', MINI, '--ablation', 'table7', '--masks', '--num', 1, '--out', tmp_path / 'x.png']
    (pair,) = browse(*args)
    assert set(pair.mixed) == {'block', 'random', 'random-4x', 'region'}
    # 4 x 4 cells in the images of either size; random: one cell a token.
    assert pair.mixed['random-4x'].mask.shape == (4, 4)
    assert pair.mixed['random'].mask.shape == (8, 8)
    region = pair.mixed['region']
    rows, columns = (np.flatnonzero((region.mask == 0).any(axis)) for axis in (1, 0))
    assert (region.mask == 0).sum() == len(rows) * len(columns)
    assert all(mixed.attention is None and mixed.values.keys() == {'λ area'} for mixed in pair.mixed.values())


def test_untrained_guides_are_named(tmp_path, capsys):
    (pair,) = browse(
        '--config', MINI, '--methods', 'smmix', 'attentive_cutmix', '--num', 1, '--out', tmp_path / 'x.png'
    )
    assert list(pair.mixed) == ['smmix (untrained)']
    said = capsys.readouterr().out
    assert 'smmix follows where the model looks, and this one is untrained: give --checkpoint.' in said
    assert said.count('Left out: ') == 1
    assert 'Left out: attentive_cutmix. AttentiveCutMix has no weights for its teacher' in said


def test_own_images(tmp_path, capsys, trained):
    rng = np.random.default_rng(0)
    for name in 'ab':
        folder = tmp_path / 'data/val' / name
        folder.mkdir(parents=True)
        for i in range(2):
            cv2.imwrite(str(folder / f'{i}.png'), rng.integers(0, 256, (80, 100, 3), dtype=np.uint8))
    args = ['--config', MINI, '--checkpoint', trained[0], '--methods', 'mixpro', '--num', 3]
    drawn = browse(*args, '--data', tmp_path / 'data', '--out', tmp_path / 'x.png')
    for pair in drawn:
        assert set(pair.names) == {'a', 'b'}
        assert pair.images.shape == (2, 64, 64, 3)
        assert pair.mixed['mixpro'].values.keys() == {'λ area', 'λ attn'}
    assert 'No alpha: the data have 2 classes, the model 10.' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('args', 'error', 'message'),
    [
        (['--data', '/nowhere'], FileNotFoundError, "expected images '/nowhere/<class>/<image>', found none"),
        (['--methods', 'mixpr'], ValueError, r"unknown are \['mixpr'\]; there are .*'mixpro'"),
        (['--ablation', 'table70'], ValueError, "No configs of 'deit-s' in .*/ablation for 'table70'"),
        (['--model', 'deit-x'], ValueError, "No configs of 'deit-x'"),
        (['--checkpoint', '/nowhere.pth'], FileNotFoundError, '/nowhere.pth'),
        (['--methods', 'attentive_cutmix'], ValueError, 'All methods were left out'),
    ],
)
def test_mistakes(args, error, message, tmp_path):
    with pytest.raises(error, match=message):
        browse('--config', MINI, '--num', 1, '--out', tmp_path / 'x.png', *args)


def test_checkpoint_of_another_model(tmp_path, trained):
    with pytest.raises(ValueError, match=r'is not of the model of --config; \d+ weights are missing'):
        browse('--config', ROOT / 'configs/demo/pvt_shapes.py', '--checkpoint', trained[0], '--out', tmp_path / 'x.png')


@pytest.mark.parametrize(('args', 'message'), [(['--num', 0], 'at least 1'), (['--out', 'x.jpg'], 'takes a .png')])
def test_usage(args, message, capsys):
    with pytest.raises(SystemExit):
        browse(*args)
    assert message in capsys.readouterr().err
