# Copyright (c) MMMixPro contributors.
import hashlib
import json

import pytest
from mmengine.config import Config

from mmmixpro.evaluation.results import fingerprint, read_result, settings_of, sha256, write_json


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
    ],
)
def test_what_changes_a_figure_is_another_setting(cfg, change):
    before = settings_of(cfg, 'abc')
    cfg.merge_from_dict(change)
    assert settings_of(cfg, 'abc') != before


def test_what_changes_no_figure_is_the_same_setting(cfg):
    before = settings_of(cfg, 'abc')
    cfg.merge_from_dict({'test_dataloader.batch_size': 64, 'test_dataloader.num_workers': 0, 'work_dir': 'there'})
    assert settings_of(cfg, 'abc') == before
    assert settings_of(cfg, 'other weights') != before
    # As it is read back.
    assert json.loads(json.dumps(before)) == before


def test_data_that_became_more_are_others(cfg, data):
    before = settings_of(cfg, 'abc')
    (data / 'b/4.png').write_text('x')
    assert settings_of(cfg, 'abc') != before
    (data / 'b/4.png').unlink()
    assert settings_of(cfg, 'abc') == before


def test_fingerprint_of_what_is_not_there(data):
    assert fingerprint([str(data / 'nowhere')]) == fingerprint([])
    assert fingerprint([str(data / 'a')]) != fingerprint([str(data / 'b')])


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
