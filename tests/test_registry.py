# Copyright (c) MMMixPro contributors.

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS, TRANSFORMS, DefaultScope
from mmpretrain.registry import BATCH_AUGMENTS

import mmmixpro
from mmmixpro.registry import SCOPE


def write_child(tmp_path, base):
    child = tmp_path / 'child.py'
    child.write_text(f"_base_ = '{base}'\nmodel = dict(head=dict(num_classes=3))\n")
    return Config.fromfile(child)


@pytest.mark.parametrize('scope', [None, 'mmpretrain'])
def test_inherited_classifier_is_built(tmp_path, scope):
    cfg = write_child(tmp_path, 'mmmixpro::mixpro/deit-t_8xb128_in1k.py')
    assert cfg.model._scope_ == SCOPE  # mmengine's doing; without the alias nothing is found in it
    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(cfg.model)
    assert isinstance(model, mmmixpro.models.PALClassifier)
    assert model.head.num_classes == 3
    assert {type(augment) for augment in model.augment.augments} >= {mmmixpro.mixing.MixProBatchAugment}


@pytest.mark.parametrize('scope', ['mmpretrain', 'mmseg', 'mmdet'])
def test_scope_stands_for_the_config_s_library(scope):
    # All three have a class of this name, and loading mmdet's needs no compiled ops.
    cfg = dict(type='RandomCrop', crop_size=(8, 8), _scope_=SCOPE)
    pytest.importorskip(scope)
    with DefaultScope.overwrite_default_scope(scope):
        assert type(TRANSFORMS.build(cfg)).__module__.split('.')[0] == scope
        assert DefaultScope.get_current_instance().scope_name == scope


def test_nested_dicts_stay_in_the_config_s_library():
    pytest.importorskip('mmseg')
    steps = [dict(type='Resize', scale=(8, 8)), dict(type='PackSegInputs')]
    with DefaultScope.overwrite_default_scope('mmseg'):
        flip = TRANSFORMS.build(dict(type='RandomApply', transforms=steps, _scope_=SCOPE))
    assert [type(step).__module__.split('.')[0] for step in flip.transforms.transforms] == ['mmseg', 'mmseg']


def test_explicit_prefix_and_unknown_type():
    backbone = MODELS.build(dict(type='mmpretrain.PVT', arch='tiny', _scope_=SCOPE))
    assert isinstance(backbone, mmmixpro.models.PVT)
    with pytest.raises(KeyError, match='NoSuchModel is not in the mmmixpro::model registry'):
        MODELS.build(dict(type='NoSuchModel', _scope_=SCOPE))


def test_registry_of_mmpretrain_alone():
    assert SCOPE in BATCH_AUGMENTS.children  # or mmengine warns at every augment it builds
    augment = BATCH_AUGMENTS.build(dict(type='MixProBatchAugment', _scope_=SCOPE))
    assert isinstance(augment, mmmixpro.mixing.MixProBatchAugment)
