# Copyright (c) MMMixPro contributors.
import hashlib
import json
import os
from importlib import metadata
from itertools import pairwise

import pytest
import torch
from mmengine.config import Config, ConfigDict

from mmmixpro.evaluation.results import fingerprint, read_result, settings_of, sha256, versions, write_json


@pytest.fixture
def data(tmp_path):
    for name in ('a/1.png', 'a/2.png', 'b/3.png'):
        (tmp_path / 'data' / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / 'data' / name).write_text('x')
    return tmp_path / 'data'


@pytest.fixture
def cfg(data):
    return Config(
        dict(
            model=dict(type='ImageClassifier', backbone=dict(type='ResNet', depth=18)),
            data_preprocessor=dict(mean=(1.0, 2.0, 3.0)),
            test_dataloader=dict(
                batch_size=2,
                num_workers=3,
                dataset=dict(type='CustomDataset', data_root=str(data), pipeline=[dict(type='PackInputs')]),
            ),
            test_evaluator=[dict(type='Accuracy')],
            test_cfg=dict(),
            randomness=dict(seed=0),
            default_scope='mmpretrain',
            work_dir='here',
        )
    )


@pytest.mark.parametrize(
    'change',
    [
        {'model.backbone.depth': 34},
        {'data_preprocessor.mean': [1.0, 2.0, 4.0]},
        {'test_dataloader.dataset.pipeline': [dict(type='Resize', scale=3), dict(type='PackInputs')]},
        {'test_evaluator': [dict(type='Accuracy', topk=(5,))]},
        {'test_cfg.fp16': True},
        {'randomness.seed': 1},
        {'custom_hooks': [dict(type='EMAHook')]},
        {'default_hooks': dict(ema=dict(type='EMAHook'))},
    ],
)
def test_what_changes_a_figure_is_another_setting(cfg, change):
    before = settings_of(cfg, 'abc', {})
    cfg.merge_from_dict(change)
    assert settings_of(cfg, 'abc', {}) != before


def test_what_changes_no_figure_is_the_same_setting(cfg):
    before = settings_of(cfg, 'abc', {})
    cfg.merge_from_dict({'test_dataloader.batch_size': 64, 'test_dataloader.num_workers': 0, 'work_dir': 'there'})
    assert settings_of(cfg, 'abc', {}) == before
    assert settings_of(cfg, 'other weights', {}) != before
    # As it is read back.
    assert json.loads(json.dumps(before)) == before


def test_data_that_became_more_are_others(cfg, data):
    before = settings_of(cfg, 'abc', {})
    (data / 'b/4.png').write_text('x')
    assert settings_of(cfg, 'abc', {}) != before
    (data / 'b/4.png').unlink()
    assert settings_of(cfg, 'abc', {}) == before


@pytest.fixture
def reads(cfg, tmp_path):
    """Whether a result hangs on a file, of bytes, age or name, where dataset and loop are as given."""

    def reads(file, dataset=(), test_cfg=()):
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('x')
        cfg.test_dataloader.dataset = ConfigDict({**cfg.test_dataloader.dataset, **dict(dataset)})
        cfg.test_cfg = ConfigDict(test_cfg)
        found = [settings_of(cfg, 'abc', {})]
        path.write_text('xx')
        found.append(settings_of(cfg, 'abc', {}))
        os.utime(path, (1, 1))
        found.append(settings_of(cfg, 'abc', {}))
        path.rename(path.with_name('other'))
        found.append(settings_of(cfg, 'abc', {}))
        changed = [before != after for before, after in pairwise(found)]
        assert len(set(changed)) == 1
        return changed[0]

    return reads


@pytest.mark.parametrize(
    ('file', 'dataset', 'test_cfg'),
    [
        ('data/fog/5/n01440764/1.png', {}, {}),  # as deep as ImageNet-C
        ('val/n01440764/1.png', dict(type='ImageNetO', val_root='{root}/val'), {}),
        ('lists/val.txt', dict(ann_file='{root}/lists/val.txt'), {}),
        ('data/val.txt', dict(ann_file='val.txt', data_prefix='a'), {}),
        ('data/meta/val.txt', dict(type='ImageNet', split='a'), {}),
        ('cifar/test', dict(type='CIFAR100', data_root='{root}/cifar', split='test'), {}),
        ('val.zip', dict(data_root='zip://{root}/val'), {}),
        ('in/val.lmdb', dict(type='ImageNet', data_root='lmdb://{root}/in', split='val'), {}),
        ('imagenet-c/fog.zip', dict(type='ImageNetC', data_root='zip://{root}/imagenet-c'), {}),
        ('maps/maps.npy', dict(pipeline=[dict(type='LoadContentMap', path='{root}/maps')]), {}),
        ('val/1.png', dict(dataset=dict(type='CustomDataset', data_root='{root}/val')), {}),
        ('dino.pth', {}, dict(saliency=dict(type='GuideAttentionSaliency', checkpoint='{root}/dino.pth'))),
    ],
)
def test_a_result_hangs_on_every_file_that_is_read(reads, tmp_path, file, dataset, test_cfg):
    def here(value):
        return json.loads(json.dumps(value).replace('{root}', str(tmp_path)))

    assert reads(file, here(dataset), here(test_cfg))


@pytest.mark.parametrize(
    ('file', 'dataset'),
    [
        ('data/train/1.png', dict(data_prefix='a')),  # of ImageNet, 1.3 million
        ('data/train/1.png', dict(type='ImageNet', split='b')),
        ('elsewhere/1.png', {}),
    ],
)
def test_what_is_not_read_is_not_looked_at(reads, file, dataset):
    assert not reads(file, dataset)


def test_a_run_looks_once(cfg, data):
    seen = {}
    before = settings_of(cfg, 'abc', seen)
    (data / 'b/4.png').write_text('x')
    assert settings_of(cfg, 'abc', seen) == before
    assert list(seen) == [str(data)] == list(before['files'])
    # What was not there has been fetched by the test.
    cfg.test_cfg = ConfigDict(checkpoint=str(data.parent / 'dino.pth'))
    assert settings_of(cfg, 'abc', seen)['files'] == before['files']
    (data.parent / 'dino.pth').write_text('x')
    assert list(settings_of(cfg, 'abc', seen)['files']) == [str(data), str(data.parent / 'dino.pth')]


def test_links(data, tmp_path):
    """In circles, to what is elsewhere, and to nothing."""
    (data / 'a/circle').symlink_to(data)
    (data / 'nothing').symlink_to(tmp_path / 'nowhere')
    (tmp_path / 'elsewhere').mkdir()
    (data / 'c').symlink_to(tmp_path / 'elsewhere')
    before = fingerprint(str(data))
    (tmp_path / 'elsewhere/1.png').write_text('x')
    assert fingerprint(str(data)) != before


def test_versions_are_of_what_is_imported_and_of_what_is_not(monkeypatch):
    found = versions()
    assert found['torch'] == torch.__version__ and {'timm', 'imagecorruptions-imaug', 'mmmixpro'} <= set(found)

    def version(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, 'version', version)
    assert set(found) - set(versions()) == {'timm', 'imagecorruptions-imaug'}


def test_hash_of_a_file(tmp_path):
    content = bytes(range(256)) * 5000  # more than one block
    (tmp_path / 'file').write_bytes(content)
    assert sha256(tmp_path / 'file') == hashlib.sha256(content).hexdigest()


def test_a_result_counts_for_its_settings_alone(tmp_path):
    path = tmp_path / 'deep/result.json'
    assert read_result(path, dict(seed=0)) is None
    write_json(path, dict(settings=dict(seed=0), metrics=dict(x=1.5)))
    assert read_result(path, dict(seed=0))['metrics'] == dict(x=1.5)
    assert read_result(path, dict(seed=1)) is None


def test_json_has_no_nan(tmp_path):
    path = tmp_path / 'result.json'
    write_json(path, dict(a=[float('nan'), 1.0], b=dict(c=float('inf')), d='ä', e=None, f=True))
    text = path.read_text(encoding='utf-8')
    assert json.loads(text) == dict(a=[None, 1.0], b=dict(c=None), d='ä', e=None, f=True)
    assert 'ä' in text


def test_half_a_file_is_never_there(tmp_path):
    path = tmp_path / 'result.json'
    write_json(path, dict(a=1))
    with pytest.raises(TypeError):
        write_json(path, dict(a=object()))
    assert json.loads(path.read_text()) == dict(a=1)
    assert list(tmp_path.iterdir()) == [path]
