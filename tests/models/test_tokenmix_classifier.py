# Copyright (c) MMMixPro contributors.
"""TokenMix in a step: its loss against NumPy, live and precomputed, what it costs and what it refuses."""

import copy

import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from oracles import labels as label_oracle
from oracles import mixing
from oracles import tokenmix as oracle

from mmmixpro.models import ContentDataPreprocessor
from mmmixpro.visualization import draw_mixed

TEACHER = dict(
    type='ImageClassifier',
    backbone=dict(type='ResNet', depth=18, stem_channels=8, base_channels=8),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=7, in_channels=64),
)
LIVE = dict(type='TokenMix', mask_size=16, min_block_tokens=2, teacher=TEACHER)
PRECOMPUTED = dict(LIVE, teacher=None)
CONTENT = dict(type='ContentLabels')
BCE = dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1 / 7)


@pytest.fixture
def live(build, redraw):
    def live(augments=(LIVE,), **kwargs):
        model = build(type='MixClassifier', labels=CONTENT, augments=augments, **kwargs).train()
        for mixer in model.mixers:
            redraw(mixer.teacher.module)
        return model

    return live


@pytest.fixture
def precomputed(build):
    def precomputed(augments=(PRECOMPUTED,), **kwargs):
        preprocessor = dict(type='ContentDataPreprocessor')
        kwargs = dict(dict(type='TokenMixClassifier', labels=CONTENT, data_preprocessor=preprocessor), **kwargs)
        return build(augments=augments, **kwargs).train()

    return precomputed


@pytest.fixture
def watch():
    """Takes down, of the next step, the plan, the logits and the images that the backbone sees."""

    def watch(model):
        seen = dict(passes=0)
        (mixer,) = model.mixers
        draw, classify = mixer.draw, model.head.forward
        mixer.draw = lambda *args: seen.setdefault('plan', draw(*args))
        model.head.forward = lambda feats: seen.setdefault('logits', classify(feats))

        def count(module, args):
            seen['passes'] += 1
            seen['images'] = args[0].clone()

        model.backbone.patch_embed.register_forward_pre_hook(count)
        return seen

    return watch


def expected_loss(seen, content, scores, loss):
    plan, logits = seen['plan'], seen['logits'].detach().double().numpy()
    total = 0
    for i, j in enumerate(plan.partner.tolist()):
        mask = mixing.expand_mask(plan.mask[0].tolist(), plan.cell, *plan.size)
        w_i, w_j = oracle.weights(content[i], content[j], mask)
        total += loss(logits[i], w_i * scores[i] + w_j * scores[j])
    return total / len(logits)


def soft(logits, target):
    return label_oracle.soft_cross_entropy(logits, label_oracle.smooth(target, 0.1))


def binary(logits, target):
    return np.mean(target * np.logaddexp(0, -logits) + (1 - target) * np.logaddexp(0, logits))


def check_step(model, batch, content, scores, images, watch, loss=soft):
    seen = watch(model)
    found = model.loss(*batch)['loss']
    np.testing.assert_allclose(found.item(), expected_loss(seen, content, scores.double().numpy(), loss), rtol=1e-5)
    mask = mixing.expand_mask(seen['plan'].mask[0].tolist(), 16, 64, 64)
    mixed = mixing.mix_images(images.numpy(), seen['plan'].partner.tolist(), [mask] * len(images))
    np.testing.assert_allclose(seen['images'], mixed, rtol=0, atol=1e-6)
    assert seen['passes'] == 1
    found.backward()
    assert all(param.grad is not None and param.grad.any() for param in model.parameters())


@pytest.mark.parametrize('loss', [soft, binary])
@pytest.mark.parametrize('num', [1, 2, 5])
def test_live_step_is_the_oracles(num, loss, live, classifier_cfg, make_batch, watch):
    head = classifier_cfg()['head']
    model = live(head=dict(head, loss=BCE) if loss is binary else head)
    images, samples, scores = make_batch(num)
    before = images.clone()
    teacher = model.mixers[0].teacher.module
    features = teacher.backbone(images)[-1].numpy()
    weight, bias = teacher.head.fc.weight.numpy(), teacher.head.fc.bias.numpy()
    content = [oracle.activation(each, weight, bias, i % 7, 5) for i, each in enumerate(features)]
    check_step(model, (images, samples), content, scores, images, watch, loss)
    assert torch.equal(images, before)


@pytest.mark.parametrize('num', [1, 4])
def test_precomputed_step_is_the_oracles(num, precomputed, make_batch, watch):
    model = precomputed()
    images, _, scores = make_batch(num)
    content = np.random.rand(num, 14, 14).astype(np.float16)
    samples = [DataSample(content=each).set_gt_label(i % 7) for i, each in enumerate(content)]
    data = model.data_preprocessor(dict(inputs=images, data_samples=samples), True)
    assert [tensor.dtype for tensor in data['data_samples']] == [torch.float32] * 2
    assert torch.equal(data['data_samples'][0], scores)
    batch = data['inputs'], data['data_samples']
    check_step(model, batch, content.astype(np.float64), scores, images, watch)


def test_one_pass_of_the_teacher_on_batches_of_tokenmix(live, make_batch):
    images, samples, _ = make_batch(4)
    for augments, passes in (((LIVE,), 1), ((dict(LIVE, prob=0.0),), 0)):
        model = live(augments)
        calls = []
        model.mixers[0].teacher.module.backbone.conv1.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        model.loss(images, samples)
        assert len(calls) == passes


def test_teacher_sees_the_images_before_mixing(live, make_batch):
    model = live()
    seen = []
    model.mixers[0].teacher.module.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    images, samples, _ = make_batch(4)
    model.loss(images, samples)
    assert torch.equal(seen[0], images)


@pytest.mark.parametrize('augment', [dict(type='Mixup', alpha=0.8), dict(PRECOMPUTED, prob=0.0), dict(type='GridMix')])
def test_other_batches_train_too(augment, precomputed, make_batch):
    labels = dict(type='AreaLabels') if augment['type'] == 'GridMix' else CONTENT
    model = precomputed([augment], labels=labels)
    images, _, scores = make_batch(4)
    model.loss(images, (scores, torch.rand(4, 14, 14)))['loss'].backward()
    assert all(param.grad is not None for param in model.parameters())


def test_teacher_is_no_part_of_the_model(live, classifier_cfg, make_batch):
    model = live()
    plain = MODELS.build(classifier_cfg(type='MixClassifier'))
    assert model.state_dict().keys() == plain.state_dict().keys()
    teacher = model.mixers[0].teacher.module
    before = copy.deepcopy(teacher.state_dict())
    images, samples, _ = make_batch(4)
    model.loss(images, samples)['loss'].backward()
    assert not any(module.training for module in teacher.modules())
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())
    assert all(param.grad is None for param in teacher.parameters())


def test_evaluation_takes_samples_without_maps(precomputed, make_batch):
    model = precomputed().eval()
    samples = [DataSample().set_gt_label(i) for i in range(2)]
    data = model.data_preprocessor(dict(inputs=make_batch(2)[0], data_samples=samples), False)
    assert model(**data, mode='predict')[0].pred_score.shape == (7,)


def test_area_labels_need_no_content(build, make_batch):
    """The mask alone, as in Table 7 of MixPro."""
    model = build(type='MixClassifier', augments=[PRECOMPUTED]).train()
    images, samples, _ = make_batch(3)
    assert model.loss(images, samples)['loss'].isfinite()


def test_drawing_a_batch(live, make_batch):
    model = live(data_preprocessor=dict(mean=[0.0] * 3, std=[1.0] * 3))
    model.data_preprocessor.num_classes = 7
    png = draw_mixed(model, make_batch(3)[0], torch.arange(3), [str(i) for i in range(7)])
    assert png.startswith(b'\x89PNG')


# Mistakes.


def test_content_labels_without_a_source(classifier_cfg):
    with pytest.raises(ValueError, match=r"ContentLabels weighs.*Set teacher.*type='TokenMixClassifier'"):
        MODELS.build(classifier_cfg(type='MixClassifier', labels=CONTENT, augments=[PRECOMPUTED]))


def test_preprocessor_without_maps(classifier_cfg):
    with pytest.raises(ValueError, match=r"MixDataPreprocessor does not bring them.*'ContentDataPreprocessor'"):
        MODELS.build(classifier_cfg(type='TokenMixClassifier', labels=CONTENT, augments=[PRECOMPUTED]))


def test_samples_without_maps():
    samples = [DataSample(content=np.ones((2, 2))).set_gt_label(0), DataSample().set_gt_label(1)]
    preprocessor = ContentDataPreprocessor(num_classes=7, to_onehot=True)
    with pytest.raises(ValueError, match=r"1 of 2 have none.*LoadContentMap.*algorithm_keys=\['content'\]"):
        preprocessor(dict(inputs=torch.zeros(2, 3, 8, 8), data_samples=samples), True)


def test_maps_are_missed_by_tokenmix_alone(precomputed, make_batch):
    """The last epochs may be unmixed, with a pipeline that brings no maps."""
    images, samples, _ = make_batch(2)
    unmixed = precomputed(augments=())
    data = unmixed.data_preprocessor(dict(inputs=images, data_samples=samples), True)
    assert unmixed.loss(**data)['loss'].isfinite()
    with pytest.raises(ValueError, match=r"LoadContentMap.*algorithm_keys=\['content'\]"):
        precomputed().loss(**data)


@pytest.mark.parametrize(
    ('type', 'augment'), [('MixClassifier', dict(type='CutMixBatchAugment')), ('SMMixClassifier', dict(type='SMMix'))]
)
def test_content_labels_of_a_mixer_that_brings_none(type, augment, classifier_cfg):
    with pytest.raises(ValueError, match=f'{augment["type"]} does not tell. Take TokenMix'):
        MODELS.build(classifier_cfg(type=type, labels=CONTENT, augments=[augment]))


def test_teacher_rests_where_nobody_asks(live, make_batch, monkeypatch):
    model = live()
    model.labels = MODELS.build(dict(type='AreaLabels'))
    monkeypatch.setattr(type(model.mixers[0].teacher), 'activation', lambda *_: pytest.fail('asked'))
    images, _, scores = make_batch(3)
    assert model.loss(images, scores)['loss'].isfinite()
