# Copyright (c) MMMixPro contributors.
import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS, TASK_UTILS
from oracles import attacks as oracle
from torch import nn

from mmmixpro.engine.loops.attacks import FGSM, PGD, logits_of, pixel_gradients

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


def build(**cfg):
    return TASK_UTILS.build(cfg)


@MODELS.register_module(force=True)
class Pixels(nn.Module):
    """A backbone that gives the pixels."""

    def forward(self, images):
        return (images.flatten(1),)


@pytest.fixture
def linear(redraw):
    """A linear classifier of 4 x 5 px, and what the oracle is given of it: BGR like the images."""
    model = MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=dict(type='Pixels'),
            head=dict(type='LinearClsHead', num_classes=5, in_channels=60),
            data_preprocessor=dict(mean=MEAN, std=STD, to_rgb=True),
        )
    ).eval()
    redraw(model)
    weight = model.head.fc.weight.detach().double().numpy().reshape(5, 3, 20)[:, ::-1].reshape(5, 60)
    return model, (weight, model.head.fc.bias.detach().double().numpy(), np.array(MEAN[::-1]), np.array(STD[::-1]))


@pytest.fixture
def batch():
    """Images with pixels at both ends of the range, and labels."""
    images = torch.randint(0, 256, (6, 3, 4, 5)).float()
    images[:, :, 0], images[:, :, 1] = 0, 255
    return images, torch.tensor([0, 1, 2, 3, 4, 0])


def attack_one_by_one(images, labels, starts, eps, step, steps, model):
    images, starts = images.double().numpy(), starts.double().numpy()
    triples = zip(images, starts, labels.tolist(), strict=True)
    return np.stack([oracle.pgd(image, start, eps, step, steps, label, *model) for image, start, label in triples])


def test_gradients(linear, batch):
    model, weights = linear
    images, labels = batch
    gradients = pixel_gradients(model, labels)(images)
    pairs = zip(images.double().numpy(), labels.tolist(), strict=True)
    expected = np.stack([oracle.gradient(image, label, *weights) for image, label in pairs])
    np.testing.assert_allclose(gradients.numpy(), expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize('eps', [1.0, 4.0, 0.25])
def test_fgsm(linear, batch, eps):
    model, weights = linear
    images, labels = batch
    before = images.clone()
    attacked = build(type='FGSM', eps=eps)(images, pixel_gradients(model, labels), range(6))
    np.testing.assert_array_equal(attacked.numpy(), attack_one_by_one(images, labels, images, eps, eps, 1, weights))
    assert torch.equal(images, before)
    inside = (images > eps) & (images < 255 - eps)
    assert ((attacked - images).abs()[inside] == eps).all()


@pytest.mark.parametrize('random_start', [False, True])
@pytest.mark.parametrize(('eps', 'step', 'steps'), [(1.0, 0.5, 5), (8.0, 3.0, 4), (2.0, 8.0, 3)])
def test_pgd(linear, batch, eps, step, steps, random_start):
    model, weights = linear
    images, labels = batch
    gradients = pixel_gradients(model, labels)
    attack = build(type='PGD', eps=eps, step=step, steps=steps, random_start=random_start)
    starts = []

    def first(points):
        starts.append(points.clone())
        return gradients(points)

    attacked = attack(images, first, range(6))
    assert ((attacked - images).abs() <= eps + 1e-4).all()
    assert 0 <= attacked.min() <= attacked.max() <= 255
    assert len(starts) == steps
    expected = attack_one_by_one(images, labels, starts[0], eps, step, steps, weights)
    np.testing.assert_allclose(attacked.numpy(), expected, rtol=0, atol=1e-4)
    assert torch.equal(starts[0], images) != random_start
    for image, label, result in zip(images, labels.tolist(), attacked, strict=True):
        values = [oracle.loss(pixels.double().numpy(), label, *weights) for pixels in (image, result)]
        assert values[0] < values[1]


def test_random_starts(batch):
    """Uniform in the ball, and an image's own."""
    images = torch.full((3, 3, 40, 40), 100.0)
    images[:, :, 0] = 254.5
    starts = []
    attack = PGD(eps=2.0, steps=1, seed=4)

    def flat(points):
        starts.append(points)
        return torch.zeros_like(points)

    attack(images, flat, [5, 6, 7])
    attack(images[:2], flat, [7, 5])
    PGD(eps=2.0, steps=1, seed=5)(images, flat, [5, 6, 7])
    first, again, other = starts
    assert torch.equal(again, first[[2, 0]])
    for another in (other, first[[1, 2, 0]]):
        assert (another != first).float().mean() > 0.95
    assert first.max() <= 255
    noise = (first - images)[:, :, 1:].flatten()
    assert noise.abs().max() <= 2
    assert (noise.add(2).div(4).histc(8, 0, 1) / len(noise) - 1 / 8).abs().max() < 0.01


def test_one_step_of_pgd_is_fgsm(classifier):
    model, images = classifier(), torch.randint(0, 256, (4, 3, 64, 64)).float()
    gradients = pixel_gradients(model, torch.arange(4))
    one = PGD(eps=3.0, step=3.0, steps=1, random_start=False)(images, gradients, range(4))
    assert torch.equal(one, FGSM(eps=3.0)(images, gradients, range(4)))


@pytest.mark.parametrize('family', ['vit', 'pvt', 'cait', 'ca_swin', 'xcit'])
def test_the_loss_of_networks_grows(classifier, backbone_cfg, family):
    """Each image's, and by more the more steps."""
    model = classifier('PALClassifier', backbone=backbone_cfg(family))
    images, labels = torch.randint(1, 255, (6, 3, 64, 64)).float(), torch.arange(6)
    gradients = pixel_gradients(model, labels)

    def losses(pixels):
        with torch.no_grad():
            logits = model(model.data_preprocessor(dict(inputs=pixels))['inputs'])
        return nn.functional.cross_entropy(logits, labels, reduction='none')

    clean = losses(images)
    assert (losses(FGSM(eps=0.05)(images, gradients, range(6))) > clean).all()
    assert losses(PGD(eps=1.0, step=0.25, steps=8)(images, gradients, range(6))).mean() > clean.mean()


def test_nothing_is_left_on_the_model(classifier):
    model = classifier()
    model.backbone.cls_token.requires_grad_(False)
    before = {name: (p.clone(), p.requires_grad) for name, p in model.named_parameters()}
    model.head.layers.head.weight.grad = torch.ones_like(model.head.layers.head.weight)
    images = torch.randint(0, 256, (2, 3, 64, 64)).float()
    with torch.no_grad():
        attacked = PGD()(images, pixel_gradients(model, torch.arange(2)), range(2))
    assert not attacked.requires_grad
    for name, parameter in model.named_parameters():
        value, requires_grad = before[name]
        assert torch.equal(parameter, value)
        assert parameter.requires_grad == requires_grad
        assert parameter.grad is None or (name == 'head.layers.head.weight' and (parameter.grad == 1).all())
    assert not model.training


def test_gradients_do_not_follow_autocast(classifier):
    model, images = classifier(), torch.randint(0, 256, (2, 3, 64, 64)).float()
    gradients = pixel_gradients(model, torch.arange(2))
    expected = gradients(images)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(gradients(images), expected)


def test_with_checkpointed_activations(redraw):
    """Also by the kind of checkpoints that refuses torch.autograd.grad."""
    images, results = torch.randint(0, 256, (2, 3, 64, 64)).float(), []
    for with_cp in (False, True):
        torch.manual_seed(0)
        cfg = dict(
            type='ImageClassifier',
            backbone=dict(type='ResNet', depth=18, stem_channels=8, base_channels=8, with_cp=with_cp),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=5, in_channels=64),
            data_preprocessor=dict(mean=MEAN, std=STD, to_rgb=True),
        )
        model = redraw(MODELS.build(cfg)).eval()
        results.append(pixel_gradients(model, torch.arange(2))(images))
    torch.testing.assert_close(*results)
    assert results[0].any()


HEADS = [
    dict(type='LinearClsHead', num_classes=5, in_channels=60),
    dict(type='StackedLinearClsHead', num_classes=5, in_channels=60, mid_channels=[8]),
    dict(type='ArcFaceClsHead', num_classes=5, in_channels=60),
    dict(type='EfficientFormerClsHead', num_classes=5, in_channels=60),
    dict(type='LeViTClsHead', num_classes=5, in_channels=60),
    dict(type='DeiTClsHead', num_classes=5, in_channels=60),
    dict(type='ConformerHead', num_classes=5, in_channels=[60, 60]),
]


@pytest.mark.parametrize('head', HEADS, ids=lambda head: head['type'])
def test_heads_are_attacked_by_what_they_predict_by(redraw, head, monkeypatch):
    pairs = head['type'] in ('DeiTClsHead', 'ConformerHead')
    monkeypatch.setattr(Pixels, 'forward', lambda self, x: ((x.flatten(1),) * 2,) if pairs else (x.flatten(1),))
    preprocessor = dict(mean=MEAN, std=STD)
    model = MODELS.build(
        dict(type='ImageClassifier', backbone=dict(type='Pixels'), head=head, data_preprocessor=preprocessor)
    )
    redraw(model).eval()
    images = torch.randint(0, 256, (3, 3, 4, 5)).float()
    inputs = model.data_preprocessor(dict(inputs=images))['inputs']
    predicted = torch.stack([sample.pred_score for sample in model.predict(inputs)])
    torch.testing.assert_close(logits_of(model, inputs).softmax(1), predicted)
    assert pixel_gradients(model, torch.arange(3))(images).abs().amax((1, 2, 3)).min() > 0


def test_mistakes(classifier):
    for wrong in (dict(eps=0), dict(eps=256), dict(step=0), dict(steps=0), dict(seed=-1)):
        with pytest.raises(ValueError, match='units of pixels: 1 stands for 1/255'):
            PGD(**wrong)
    with pytest.raises(ValueError, match='eps'):
        FGSM(eps=-1)
    headless = classifier()
    headless.head = None
    headless.backbone.forward = lambda images: dict(a=images)
    with pytest.raises(ValueError, match='ImageClassifier with NoneType gives dict'):
        logits_of(headless, torch.zeros(1, 3, 64, 64))


def test_what_they_say():
    assert PGD(eps=2, step=0.5, steps=3, seed=1).describe() == (
        'pgd: eps 2/255, 3 steps of 0.5/255, random start by seed 1'
    )
    assert FGSM(name='weak').describe() == 'weak: eps 1/255'
