# Copyright (c) MMMixPro contributors.
"""A compiled classifier takes the same steps, in one graph, and is not compiled again for each."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from mmpretrain.registry import HOOKS, MODELS
from torch._dynamo.testing import CompileCounterWithBackend

from mmmixpro.engine import CompileHook
from mmmixpro.engine.hooks import compile_parts

MASKMIX = dict(type='MixProBatchAugment', mask_size=32)
MIXUP = dict(type='Mixup', alpha=0.8)
pytestmark = pytest.mark.usefixtures('forget_graphs')


@pytest.fixture
def build(classifier_cfg, backbone_cfg, redraw):
    def build(family='vit', **kwargs):
        backbone = backbone_cfg(family, drop_path_rate=0.2)
        model = redraw(MODELS.build(classifier_cfg(backbone=backbone, **kwargs)))
        model.head.layers.head.weight.data /= 4
        return model

    return build


def step(model, seed, num=4):
    """Loss and gradient norm of a step on images drawn from a seed."""
    np.random.seed(seed)
    torch.manual_seed(seed)
    images, scores = torch.randn(num, 3, 64, 64), torch.eye(7)[torch.arange(num)]
    model.zero_grad()
    loss = model.loss(images, scores)['loss']
    loss.backward()
    return torch.stack([loss.detach(), *(p.grad.norm() for p in model.parameters())])


@pytest.mark.parametrize('family', ['vit', 'pvt', 'cait', 'ca_swin', 'xcit'])
def test_same_steps_in_one_graph_each(family, build):
    """With and without class attention; drop path draws the same, for nothing else is drawn in between."""
    eager = build(family, augments=[MASKMIX, MIXUP], probs=[0.5, 0.5])
    compiled = copy.deepcopy(eager)
    counter = CompileCounterWithBackend('aot_eager')
    compile_parts(compiled, backend=counter, fullgraph=True, dynamic=False)
    for seed in range(8):
        torch.testing.assert_close(step(compiled, seed), step(eager, seed), rtol=1e-4, atol=1e-5)
    # Backbone with and without class attention, and the head.
    assert counter.frame_count == 3


@pytest.mark.parametrize('family', ['vit', 'pvt'])
def test_under_autocast(family, build):
    eager = build(family, augments=[MASKMIX])
    compiled = copy.deepcopy(eager)
    compile_parts(compiled, backend='aot_eager', fullgraph=True, dynamic=False)
    with torch.autocast('cpu', torch.bfloat16):
        # One rounding more or less of bfloat16.
        torch.testing.assert_close(step(compiled, 0)[0], step(eager, 0)[0], rtol=1e-2, atol=0)


def test_keeps_names_and_types(build):
    model = build(augments=[MASKMIX])
    keys, kind = list(model.state_dict()), type(model.backbone)
    compile_parts(model, backend='eager')
    assert list(model.state_dict()) == keys
    assert type(model.backbone) is kind
    assert all(type(module.drop_prob) is float for module in model.modules() if hasattr(module, 'drop_prob'))


def test_evaluation(build):
    eager = build(augments=[MASKMIX]).eval()
    compiled = copy.deepcopy(eager)
    compile_parts(compiled, backend='aot_eager', fullgraph=True)
    images = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(compiled(images, mode='tensor'), eager(images, mode='tensor'))


def test_labels_compile_too(build):
    """Label policies are one graph, for whoever compiles the loss as well."""
    model = build(augments=[MASKMIX])
    plan = model.augment.augments[0].draw(torch.zeros(4, 3, 64, 64), None)
    attention = torch.rand(4, 4, 4).flatten(1).softmax(1).view(4, 4, 4)
    logits, scores = torch.randn(4, 7), torch.eye(7)[:4]

    def target(attention, logits, scores):
        return plan.mix_scores(scores, *model.labels(plan, attention, logits, scores))

    compiled = torch.compile(target, backend='aot_eager', fullgraph=True)
    torch.testing.assert_close(compiled(attention, logits, scores), target(attention, logits, scores))


def test_mixing_compiles_too():
    from mmmixpro.mixing import MixProBatchAugment

    images = torch.randn(4, 3, 96, 64)
    plan = MixProBatchAugment(mask_size=32).draw(images)
    compiled = torch.compile(plan.mix_images, backend='aot_eager', fullgraph=True)
    assert torch.equal(compiled(images), plan.mix_images(images))


def test_hook_compiles_what_it_finds(build):
    model = build(augments=[MASKMIX])
    hook = HOOKS.build(dict(type='CompileHook', backend='aot_eager', fullgraph=True))
    assert isinstance(hook, CompileHook)
    hook.before_train(SimpleNamespace(model=model, logger=MMLogger.get_instance('compile')))
    assert model.backbone._compiled_call_impl is not None
    assert model.head._compiled_call_impl is not None
    assert torch.isfinite(step(model, 0)).all()


def test_batches_of_all_kinds_stay_within_one_graph_each(build):
    """Of two sizes, with and without class attention, in training and evaluation: torch compiles eight graphs
    of a module before it gives up, these are six of the backbone and four of the head."""
    model = build(augments=[MASKMIX, MIXUP])
    counter = CompileCounterWithBackend('eager')
    compile_parts(model, backend=counter, fullgraph=True, dynamic=False)
    for num in (4, 3):
        for probs in ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0]):
            model.augment.probs = probs
            step(model, 0, num)
        with torch.no_grad():
            model.eval()(torch.randn(num + 5, 3, 64, 64), mode='tensor')
        model.train()
    assert counter.frame_count == 10


@pytest.mark.slow
@pytest.mark.parametrize('family', ['vit', 'pvt'])
def test_same_steps_through_inductor(family, build):
    eager = build(family, augments=[MASKMIX, MIXUP], probs=[0.5, 0.5])
    for module in eager.modules():
        if hasattr(module, 'drop_prob'):
            module.drop_prob = 0.0  # inductor draws other random numbers
    compiled = copy.deepcopy(eager)
    compile_parts(compiled, fullgraph=True, dynamic=False)
    for seed in range(4):
        torch.testing.assert_close(step(compiled, seed), step(eager, seed), rtol=1e-3, atol=1e-4)
