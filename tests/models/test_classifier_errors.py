# Copyright (c) MMMixPro contributors.
"""Mistakes in a config are answered when the model is built, with what to write instead."""

import pytest
from mmpretrain.registry import MODELS

MASKMIX = dict(type='MixProBatchAugment', mask_size=32)
RESNET = dict(type='ResNet', depth=18)
WITH_ATTENTION = ['PALClassifier', 'MixClassifier', 'SMMixClassifier']


@pytest.mark.parametrize('type', WITH_ATTENTION)
def test_backbone_without_class_attention(type, classifier_cfg):
    cfg = classifier_cfg(type=type, backbone=RESNET, augments=[MASKMIX])
    if type == 'MixClassifier':
        cfg['labels'] = dict(type='AttentionLabels')
    with pytest.raises(ValueError, match=r"ResNet has no known class attention.*type='MixClassifier'"):
        MODELS.build(cfg)


HEADS = [
    dict(type='ConformerHead', num_classes=7, in_channels=[32, 32]),
    dict(type='EfficientFormerClsHead', num_classes=7, in_channels=32),
    dict(type='ArcFaceClsHead', num_classes=7, in_channels=32),
    dict(type='MultiLabelClsHead'),
    dict(type='MultiLabelLinearClsHead', num_classes=7, in_channels=32),
    dict(type='CSRAClsHead', num_classes=7, in_channels=32, num_heads=1, lam=0.1),
    dict(
        type='MultiTaskHead',
        task_heads=dict(a=dict(type='LinearClsHead', num_classes=7)),
        in_channels=32,
    ),
]


@pytest.mark.parametrize('head', HEADS, ids=lambda head: head['type'])
@pytest.mark.parametrize('type', WITH_ATTENTION)
def test_head_with_a_loss_of_its_own(type, head, classifier_cfg):
    with pytest.raises(ValueError, match=f'{head["type"]} computes a loss of its own.*LinearClsHead'):
        MODELS.build(classifier_cfg(type=type, head=head, augments=[MASKMIX]))


def test_every_head_of_mmpretrain_is_accepted_or_refused_knowingly():
    """A head that mmpretrain adds, or whose loss it changes, shows here."""
    from mmpretrain.models.heads import ClsHead

    heads = [c for c in MODELS.module_dict.values() if isinstance(c, type) and issubclass(c, ClsHead)]
    own = {c.__name__ for c in heads if c.loss is not ClsHead.loss or c._get_loss is not ClsHead._get_loss}
    assert own == {head['type'] for head in HEADS[:3]}


def test_accuracy_of_mixed_images(classifier_cfg):
    head = dict(type='LinearClsHead', num_classes=7, in_channels=32, cal_acc=True)
    with pytest.raises(ValueError, match='cal_acc'):
        MODELS.build(classifier_cfg(head=head))


@pytest.mark.parametrize(('family', 'mask_size', 'stride'), [('vit', 24, 16), ('vit', 8, 16), ('pvt', 48, 32)])
def test_mask_that_cuts_tokens(family, mask_size, stride, classifier_cfg, vit_cfg, pvt_cfg):
    cfg = classifier_cfg(
        backbone=dict(vit=vit_cfg, pvt=pvt_cfg)[family](),
        augments=[dict(type='Mixup', alpha=0.8), dict(type='MixProBatchAugment', mask_size=mask_size)],
    )
    with pytest.raises(ValueError, match=rf'mask_size={mask_size} .*{stride} px.*multiple of {stride}'):
        MODELS.build(cfg)


@pytest.mark.parametrize('type', WITH_ATTENTION)
def test_mixing_twice(type, classifier_cfg):
    preprocessor = dict(batch_augments=dict(augments=[MASKMIX]))
    with pytest.raises(ValueError, match=r'batch_augments.*second time.*train_cfg'):
        MODELS.build(classifier_cfg(type=type, data_preprocessor=preprocessor))


@pytest.mark.parametrize('type', WITH_ATTENTION)
def test_classifier_in_place_of_a_head(type, vit_cfg):
    cfg = dict(type='ImageClassifier', backbone=vit_cfg(), head=dict(type=type, num_classes=7, in_channels=32))
    with pytest.raises(TypeError, match=rf"needs a backbone and a head.*model=dict\(type='{type}'"):
        MODELS.build(cfg)


@pytest.mark.parametrize(
    'wrong',
    [
        dict(lables=dict(type='AreaLabels')),
        dict(augments_probs=[1.0]),
        dict(test_cfg=dict()),
    ],
)
@pytest.mark.parametrize('type', WITH_ATTENTION)
def test_unknown_argument_of_a_classifier(type, wrong, classifier_cfg):
    with pytest.raises(TypeError, match=rf'{type}.*unknown.*{next(iter(wrong))}.*labels'):
        MODELS.build(classifier_cfg(type=type, **wrong))


def test_unknown_argument_of_train_cfg(classifier_cfg):
    cfg = classifier_cfg()
    cfg['train_cfg'] = dict(augments=[MASKMIX], prob=[1.0])
    with pytest.raises(TypeError, match=r"train_cfg.*\['prob'\].*augments and probs"):
        MODELS.build(cfg)


@pytest.mark.parametrize(
    ('labels', 'named'),
    [
        (dict(type='AttentionLabels', weight=1), 'AttentionLabels.*weight'),
        (dict(type='ProgressiveAttentionLabels', detach=True), 'ProgressiveAttentionLabels.*detach'),
    ],
)
def test_unknown_argument_of_labels(labels, named, classifier_cfg):
    with pytest.raises(TypeError, match=named):
        MODELS.build(classifier_cfg(labels=labels))


def test_unknown_argument_of_a_mixer(classifier_cfg):
    with pytest.raises(TypeError, match=r'MixProBatchAugment.*patch_size'):
        MODELS.build(classifier_cfg(augments=[dict(type='MixProBatchAugment', patch_size=32)]))


@pytest.mark.parametrize('probs', [[0.7, 0.7], [0.5]])
def test_probs_that_do_not_add_up(probs, classifier_cfg):
    with pytest.raises((ValueError, AssertionError), match='prob'):
        MODELS.build(classifier_cfg(augments=[MASKMIX, dict(type='CutMix', alpha=1.0)], probs=probs))


def test_mask_as_large_as_the_image(classifier_cfg, make_batch):
    """The default of 64 px on images of 64 px."""
    model = MODELS.build(classifier_cfg(augments=[dict(type='MixProBatchAugment')]))
    images, samples, _ = make_batch(2)
    with pytest.raises(ValueError, match=r'mask_size=64.*64'):
        model.loss(images, samples)


@pytest.mark.parametrize('probs', [[0.5, 0.5], [1.5], [-0.1]])
def test_probs_that_do_not_fit(probs, classifier_cfg):
    cfg = classifier_cfg(type='PALClassifier', augments=[MASKMIX])
    cfg['train_cfg']['probs'] = probs
    with pytest.raises(ValueError, match='must give each of the 1 augments its share'):
        MODELS.build(cfg)


def test_no_augments_is_no_mixing(classifier_cfg, make_batch):
    cfg = classifier_cfg(type='PALClassifier', augments=[])
    images, samples, _ = make_batch(2, (64, 64))
    assert MODELS.build(cfg).loss(images, samples)['loss'].isfinite()
