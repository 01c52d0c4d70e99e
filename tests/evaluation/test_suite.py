# Copyright (c) MMMixPro contributors.
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.registry import DATASETS, LOOPS, METRICS

from mmmixpro.evaluation.suite import apply_suite, find_suites, load_suite

ROOT = Path(__file__).resolve().parents[2]
PIPELINE = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]


@pytest.fixture
def cfg():
    return Config(
        dict(
            default_scope='mmpretrain',
            test_dataloader=dict(batch_size=7, dataset=dict(type='ImageNet', data_root='here', pipeline=PIPELINE)),
            test_evaluator=dict(type='Accuracy', topk=(1, 5)),
            test_cfg=dict(fp16=True),
        )
    )


EVALUATOR = [dict(type='Accuracy', topk=(1,))]


def test_the_evaluator_alone(cfg):
    """Nothing of the old one is left, nor of its loop; the data are the config's own."""
    applied = apply_suite(cfg, dict(evaluator=EVALUATOR))
    assert applied.test_evaluator == EVALUATOR
    assert applied.test_cfg == {}
    assert applied.test_dataloader == cfg.test_dataloader


def test_a_dataset_takes_the_pipeline_of_the_config(cfg):
    applied = apply_suite(cfg, dict(dataset=dict(type='ImageNetA', data_root='there'), evaluator=EVALUATOR))
    assert applied.test_dataloader.dataset == dict(type='ImageNetA', data_root='there', pipeline=PIPELINE)
    assert applied.test_dataloader.batch_size == 7


def test_a_dataset_may_bring_a_pipeline(cfg):
    own = dict(type='ImageNetC', pipeline=[dict(type='PackInputs')])
    assert apply_suite(cfg, dict(dataset=own, evaluator=EVALUATOR)).test_dataloader.dataset == own


@pytest.mark.parametrize('inside', [lambda own: dict(dataset=own), lambda own: dict(datasets=[own, dict(own)])])
def test_the_pipeline_of_what_is_wrapped(cfg, inside):
    wrapped = dict(type='Wrapper', **inside(cfg.test_dataloader.dataset))
    cfg.test_dataloader.dataset = wrapped
    assert apply_suite(cfg, dict(evaluator=EVALUATOR)).test_dataloader.dataset == wrapped
    applied = apply_suite(cfg, dict(dataset=dict(type='ImageNetA'), evaluator=EVALUATOR))
    assert applied.test_dataloader.dataset == dict(type='ImageNetA', pipeline=PIPELINE)


def test_a_wrapper_goes_around_what_is_tested(cfg):
    suite = dict(wrapper=dict(type='Corrupted', seed=3), evaluator=EVALUATOR)
    applied = apply_suite(cfg, suite)
    assert applied.test_dataloader.dataset == dict(type='Corrupted', seed=3, dataset=cfg.test_dataloader.dataset)
    applied = apply_suite(cfg, dict(suite, dataset=dict(type='ImageNetA')))
    assert applied.test_dataloader.dataset.dataset == dict(type='ImageNetA', pipeline=PIPELINE)


def test_a_loop(cfg):
    loop = dict(type='SomeLoop', seed=1)
    assert apply_suite(cfg, dict(test_cfg=loop, evaluator=EVALUATOR)).test_cfg == loop


def test_config_and_suite_stay_as_they_are(cfg):
    suite = dict(
        dataset=dict(type='A'), wrapper=dict(type='B'), evaluator=[dict(type='C')], test_cfg=dict(type='D', x=[1])
    )
    before, given = cfg.to_dict(), repr(suite)
    applied = apply_suite(cfg, suite)
    applied.test_cfg.x.append(2)
    applied.test_evaluator[0]['type'] = 'E'
    applied.test_dataloader.dataset.dataset.pipeline.append(dict(type='F'))
    assert cfg.to_dict() == before and repr(suite) == given


@pytest.mark.parametrize('change', [dict(default_scope='mmdet'), dict(test_dataloader=None)])
def test_what_is_no_classifier_is_refused(cfg, change):
    cfg.merge_from_dict(change)
    with pytest.raises(ValueError, match='Expected the config of a classifier'):
        apply_suite(cfg, dict(evaluator=EVALUATOR))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'b.py').write_text("robustness = dict(evaluator=[dict(type='Accuracy')])")
    (tmp_path / 'a.py').write_text("x = 1\nrobustness = dict(dataset=dict(root='{{$SOME_ROOT:data}}/a'), evaluator=[])")
    return tmp_path


def test_suites_are_files(folder, monkeypatch):
    monkeypatch.setenv('SOME_ROOT', '/elsewhere')
    assert list(find_suites(folder)) == ['a', 'b']
    assert load_suite('a', folder) == ('a', dict(dataset=dict(root='/elsewhere/a'), evaluator=[]))
    assert load_suite(str(folder / 'b.py')) == ('b', dict(evaluator=[dict(type='Accuracy')]))


@pytest.mark.parametrize(
    ('name', 'error', 'message'),
    [
        ('c', ValueError, "No suite is named 'c'; there are a, b, broken, typo, and files"),
        ('nowhere/c.py', FileNotFoundError, "found no 'nowhere/c.py'"),
        ('broken', ValueError, r'expected `robustness = dict\(evaluator=\[...\]\)`.*found none'),
        ('typo', ValueError, r"found \['datasets', 'evaluator'\]"),
    ],
)
def test_mistakes(folder, name, error, message):
    (folder / 'broken.py').write_text('x = 1')
    (folder / 'typo.py').write_text('robustness = dict(evaluator=[], datasets={})')
    with pytest.raises(error, match=message):
        load_suite(name, folder)


def test_the_projects_suites_are_of_classes_that_there_are():
    """Each fits a classifier, and no name in it is misspelt."""
    cfg = Config.fromfile(ROOT / 'configs/mixpro/deit-s_8xb128_in1k.py')
    init_default_scope('mmpretrain')
    for name in find_suites():
        applied = apply_suite(cfg, load_suite(name)[1])
        dataset = applied.test_dataloader.dataset
        parts = [(DATASETS, dataset), *((METRICS, metric) for metric in applied.test_evaluator)]
        parts += [(LOOPS, applied.test_cfg)] if applied.test_cfg else []
        for registry, part in parts:
            assert registry.get(part['type']) is not None, (name, part['type'])
