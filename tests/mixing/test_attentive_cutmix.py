# Copyright (c) MMMixPro contributors.
import copy
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import ExponentialMovingAverage
from mmengine.registry import init_default_scope
from mmpretrain.registry import BATCH_AUGMENTS, MODELS
from oracles import comparators as oracle
from oracles import mixing
from torch import nn
from torch.nn import functional as F

from mmmixpro.mixing import AttentiveCutMix

LEAF = Path(__file__).parents[2] / 'configs/attentive_cutmix/deit-t_8xb128_in1k.py'
RESNET = dict(type='ResNet', depth=18, stem_channels=8, base_channels=8)


@MODELS.register_module(force=True)
class PoolingTeacher(nn.Module):
    """Its features are the image, averaged over cells."""

    def __init__(self, stride):
        super().__init__()
        self.stride = stride

    def forward(self, images):
        return F.avg_pool2d(images, self.stride, ceil_mode=True)


@pytest.fixture
def build(redraw):
    """A mixer whose teacher is ready."""

    def build(teacher=RESNET, **kwargs):
        mixer = AttentiveCutMix(teacher, **kwargs)
        mixer.init_weights()
        redraw(mixer.teacher.module)
        return mixer

    return build


@pytest.fixture
def checkpoint(tmp_path, redraw):
    """A checkpoint of a classifier with the teacher for its backbone."""
    backbone = redraw(MODELS.build(RESNET))
    path = tmp_path / 'teacher.pth'
    torch.save(dict(state_dict={f'backbone.{k}': v for k, v in backbone.state_dict().items()}), path)
    return path, backbone


def pretrained(path):
    return dict(RESNET, init_cfg=dict(type='Pretrained', checkpoint=str(path), prefix='backbone.', strict=True))


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ('num', 'size', 'kwargs'),
    [
        (1, (96, 96), dict()),
        (2, (224, 224), dict()),
        (5, (72, 120), dict(top_k=3)),
        (3, (96, 160), dict(teacher=dict(type='PoolingTeacher', stride=16))),
        (3, (64, 96), dict(teacher=dict(type='PoolingTeacher', stride=32), mask_size=24)),
        (4, (40, 56), dict(teacher=dict(RESNET, out_indices=(0, 1)), mask_size=8)),
    ],
)
def test_plan_is_the_oracles(num, size, kwargs, dtype, build, check_plan):
    mixer = build(**kwargs)
    images = torch.randn(num, 3, *size).to(dtype)
    seen = []
    mixer.teacher.module.register_forward_hook(lambda module, args, output: seen.append(output))
    plan = mixer.draw(images)
    maps = seen[0][-1] if isinstance(seen[0], tuple) else seen[0]
    grid = [math.ceil(side / mixer.mask_size) for side in size]
    cells = [oracle.attentive_cells(maps[j].numpy(), mixer.top_k, *grid) for j in plan.partner.tolist()]
    check_plan(plan, images, [mixing.expand_mask(each, mixer.mask_size, *size) for each in cells])


def test_six_of_49_cells(build):
    plan = build().draw(torch.randn(3, 3, 224, 224))
    assert plan.mask.shape == (3, 7, 7)
    assert plan.mask.sum((1, 2)).tolist() == [43] * 3
    torch.testing.assert_close(plan.lam, torch.full((3,), 43 / 49))


def test_what_the_partner_shows_is_pasted():
    """Bright cells of the partner, where they are there, and nothing else of it."""
    mixer = AttentiveCutMix(dict(type='PoolingTeacher', stride=32), top_k=2)
    mixer.init_weights()
    images = torch.zeros(3, 3, 64, 96)
    bright = [[(0, 0), (1, 2)], [(0, 1), (0, 2)], [(1, 0), (1, 1)]]
    for image, cells in zip(images, bright, strict=True):
        for a, b in cells:
            image[:, 32 * a : 32 * a + 32, 32 * b : 32 * b + 32] = 1
    plan = mixer.draw(images)
    for i, j in enumerate(plan.partner.tolist()):
        assert sorted(map(tuple, (~plan.mask[i]).nonzero().tolist())) == bright[j]
    mixed, labels = mixer(images, torch.eye(3))
    assert torch.allclose(labels.sum(1), torch.ones(3))
    assert (mixed.amax((2, 3)) == 1).all()


def test_exactly_so_many_cells_where_all_are_equal():
    mixer = AttentiveCutMix(dict(type='PoolingTeacher', stride=32), top_k=3)
    mixer.init_weights()
    assert (~mixer.draw(torch.zeros(2, 3, 96, 96)).mask).sum((1, 2)).tolist() == [3, 3]


def test_cropped_cells_count_less():
    mixer = AttentiveCutMix(dict(type='PoolingTeacher', stride=32), top_k=1)
    mixer.init_weights()
    image = torch.zeros(1, 3, 64, 80)
    image[..., 64:] = 1  # the last column of cells, 16 px wide
    assert mixer.draw(image).lam.item() == pytest.approx(1 - 32 * 16 / (64 * 80))


def test_pairs_and_share_over_many_draws():
    mixer = AttentiveCutMix(dict(type='PoolingTeacher', stride=8), mask_size=8, top_k=2)
    mixer.init_weights()
    images = torch.randn(2, 3, 16, 32)
    plans = [mixer.draw(images) for _ in range(400)]
    assert {plan.lam.tolist()[0] for plan in plans} == {0.75}
    assert abs(sum(plan.partner[0].item() for plan in plans) - 200) < 50


# The teacher.


@pytest.fixture
def classifier(classifier_cfg):
    """A classifier in training that is mixed by a teacher, and its config."""

    def classifier(teacher=RESNET, **kwargs):
        augment = dict(type='AttentiveCutMix', teacher=teacher, top_k=2)
        cfg = classifier_cfg(type='MixClassifier', augments=[augment], **kwargs)
        return MODELS.build(cfg), cfg

    return classifier


def test_teacher_is_no_part_of_the_model(classifier, classifier_cfg, make_batch):
    model, _ = classifier()
    model.init_weights()
    plain = MODELS.build(classifier_cfg(type='MixClassifier'))
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert [name for name, _ in model.named_modules()] == [name for name, _ in plain.named_modules()]
    assert len(list(model.parameters())) == len(list(plain.parameters()))

    (mixer,) = model.mixers
    teacher = mixer.teacher.module
    before = copy.deepcopy(teacher.state_dict())
    model.train()
    images, samples, _ = make_batch(4)
    model.loss(images, samples)['loss'].backward()
    assert not any(module.training for module in teacher.modules())
    assert not any(param.requires_grad for param in teacher.parameters())
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())


def test_copies_share_the_teacher(classifier, make_batch):
    model, cfg = classifier()
    before = copy.deepcopy(cfg)
    averaged = ExponentialMovingAverage(model)
    model.init_weights()
    (mixer,) = model.mixers
    for copied in (copy.deepcopy(model), averaged.module):
        assert copied.mixers[0] is not mixer
        assert copied.mixers[0].teacher is mixer.teacher
    assert not [key for key in averaged.state_dict() if 'teacher' in key]
    again = MODELS.build(cfg)
    assert cfg == before
    assert again.mixers[0].teacher is not mixer.teacher
    restored = pickle.loads(pickle.dumps(model))
    images, _, _ = make_batch(3, (96, 96))
    torch.testing.assert_close(restored.mixers[0].teacher(images), mixer.teacher(images))


def test_weights_are_loaded_when_training_begins(classifier, checkpoint):
    path, backbone = checkpoint
    model, _ = classifier(pretrained(path))
    model.init_weights()
    loaded = model.mixers[0].teacher.module.state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in backbone.state_dict().items())


def test_evaluation_needs_no_teacher(classifier, make_batch):
    model, _ = classifier(pretrained('nowhere.pth'))
    model.eval()
    assert model(make_batch(2)[0], mode='predict')[0].pred_score.shape == (7,)


def test_missing_weights(classifier):
    model, _ = classifier(pretrained('nowhere.pth'))
    with pytest.raises(FileNotFoundError, match=r"No checkpoint at 'nowhere.pth'.*ATTENTIVE_CUTMIX_TEACHER") as e:
        model.init_weights()
    assert 'MIXPRO_CHECKPOINT' not in str(e.value)


def test_weights_of_another_model(classifier, checkpoint, tmp_path):
    weights = torch.load(checkpoint[0])['state_dict']
    del weights['backbone.conv1.weight']
    torch.save(weights, tmp_path / 'other.pth')
    model, _ = classifier(pretrained(tmp_path / 'other.pth'))
    with pytest.raises(ValueError, match=r'missing in the checkpoint \(1\): conv1\.weight'):
        model.init_weights()


def test_weights_from_the_environment(monkeypatch, checkpoint, tmp_path):
    init_default_scope('mmpretrain')
    for child in (False, True):
        monkeypatch.delenv('ATTENTIVE_CUTMIX_TEACHER', raising=False)
        path = LEAF
        if child:
            path = tmp_path / 'child.py'
            path.write_text("_base_ = 'mmmixpro::attentive_cutmix/deit-t_8xb128_in1k.py'\n")
        with pytest.raises(FileNotFoundError, match='data/resnet50_8xb32_in1k_20210831-ea4938fc.pth'):
            BATCH_AUGMENTS.build(Config.fromfile(path).model.train_cfg.augments[0]).init_weights()
        monkeypatch.setenv('ATTENTIVE_CUTMIX_TEACHER', str(checkpoint[0]))
        cfg = Config.fromfile(path).model.train_cfg.augments[0]
        assert (cfg.mask_size, cfg.top_k, cfg.teacher.type, cfg.teacher.depth) == (32, 6, 'ResNet', 50)
        cfg.teacher.update(RESNET)
        mixer = BATCH_AUGMENTS.build(cfg)
        mixer.init_weights()
        assert torch.equal(mixer.teacher.module.conv1.weight, checkpoint[1].conv1.weight)


def test_teacher_does_not_change_what_training_draws(build):
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    mixer = AttentiveCutMix(RESNET)
    mixer.init_weights()
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()


def test_teacher_that_was_not_built(classifier_cfg, make_batch):
    with pytest.raises(ValueError, match=r"ResNet has not been built.*init_weights\(\).*type='MixClassifier'"):
        AttentiveCutMix(RESNET)(torch.randn(2, 3, 96, 96), torch.eye(2))


def test_teacher_without_maps(vit_cfg):
    mixer = AttentiveCutMix(vit_cfg(), top_k=2)
    mixer.init_weights()
    with pytest.raises(ValueError, match=r"VisionTransformer gives features of shape \(2, 32\).*out_type='featmap'"):
        mixer.draw(torch.randn(2, 3, 64, 64))
    mixer = AttentiveCutMix(vit_cfg(out_type='featmap'), top_k=2)
    mixer.init_weights()
    assert mixer.draw(torch.randn(2, 3, 64, 64)).mask.shape == (2, 2, 2)


@pytest.mark.parametrize('prob', [0, 0.5, 1])
def test_prob_is_honoured(prob):
    mixer = AttentiveCutMix(dict(type='PoolingTeacher', stride=4), mask_size=4, top_k=1, prob=prob)
    mixer.init_weights()
    mixed = sum(mixer.plan(torch.zeros(2, 3, 8, 8)) is not None for _ in range(1000))
    assert abs(mixed - 1000 * prob) <= (80 if prob == 0.5 else 0)


@pytest.mark.parametrize(
    ('kwargs', 'named'),
    [
        (dict(teacher='resnet50.pth'), "teacher must be the config of a backbone.*got 'resnet50.pth'"),
        (dict(teacher=dict(depth=50)), 'teacher must be the config'),
        (dict(top_k=0), 'top_k'),
        (dict(top_k=1.5), 'top_k'),
        (dict(mask_size=0), 'mask_size'),
        (dict(prob=1.5), 'prob'),
    ],
)
def test_arguments_out_of_range_are_named(kwargs, named):
    with pytest.raises(ValueError, match=named):
        AttentiveCutMix(**{**dict(teacher=RESNET), **kwargs})


def test_too_few_cells(build):
    with pytest.raises(ValueError, match=r'top_k=6 cells, but mask_size=32 makes 4 of images of 64 x 48 px'):
        build().draw(torch.zeros(2, 3, 64, 48))


def test_unknown_argument_is_named():
    with pytest.raises(TypeError, match='alpha'):
        BATCH_AUGMENTS.build(dict(type='AttentiveCutMix', teacher=RESNET, alpha=1.0))


def test_token_stride():
    AttentiveCutMix(RESNET).check_token_stride(16)
    with pytest.raises(ValueError, match=r'mask_size=32 .*14 px.*multiple of 14'):
        AttentiveCutMix(RESNET).check_token_stride(14)
