# Copyright (c) MMMixPro contributors.
"""Mixing and labels never make the host wait for the device, nor loop over samples, nor keep copies."""

import itertools
from collections import Counter
from functools import partial

import numpy as np
import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmpretrain.registry import BATCH_AUGMENTS, MODELS
from mmpretrain.structures import DataSample
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmmixpro.engine import MixProgressHook

MASKMIX = dict(type='MixProBatchAugment', mask_size=32)
TRANSMIX = dict(type='TransMixBatchAugment')
GRIDMIX = dict(type='GridMix', mask_size=16)


@MODELS.register_module(force=True)
class StubTeacher(nn.Conv2d):
    """Feature maps of one layer: what initialises a ResNet reads values back."""

    def __init__(self):
        super().__init__(3, 4, 16, 16)


@MODELS.register_module(force=True)
class StubHead(nn.Linear):
    """A head, likewise."""

    def __init__(self):
        super().__init__(4, 7)

    def forward(self, feats):
        return super().forward(feats[-1])


ATTENTIVE = dict(type='AttentiveCutMix', teacher=dict(type='StubTeacher'), mask_size=16)
TOKENMIX = dict(
    type='TokenMix',
    mask_size=8,
    teacher=dict(
        type='ImageClassifier',
        backbone=dict(type='StubTeacher'),
        head=dict(type='StubHead'),
    ),
)
METHODS = {
    'mixpro': dict(augments=[MASKMIX]),
    'mixpro_elem': dict(augments=[dict(MASKMIX, mode='elem')]),
    'mixpro_count': dict(augments=[dict(MASKMIX, lam='count', pairing='flip', rounding='ceil')]),
    'transmix': dict(type='MixClassifier', augments=[TRANSMIX], labels=dict(type='AttentionLabels')),
    'gridmix': dict(type='MixClassifier', augments=[GRIDMIX]),
    'saliencymix': dict(type='MixClassifier', augments=[dict(type='SaliencyMix')]),
    'attentive_cutmix': dict(type='MixClassifier', augments=[ATTENTIVE]),
    'mixup_elem': dict(augments=[dict(type='MixupBatchAugment', mode='elem')]),
    'cutmix_elem': dict(augments=[dict(type='CutMixBatchAugment', mode='elem')]),
    'shuffled': dict(augments=[dict(MASKMIX, type='ShuffledMaskMix', patch_size=16)]),
    'tokenmix': dict(type='MixClassifier', augments=[TOKENMIX], labels=dict(type='ContentLabels')),
    'tokenmix_random': dict(
        type='MixClassifier', augments=[dict(TOKENMIX, mask_type='random')], labels=dict(type='ContentLabels')
    ),
    'tokenmix_precomputed': dict(
        type='TokenMixClassifier',
        augments=[dict(TOKENMIX, teacher=None)],
        labels=dict(type='ContentLabels'),
        data_preprocessor=dict(type='ContentDataPreprocessor'),
    ),
    'area': dict(type='MixClassifier', augments=[MASKMIX]),
    'smmix': dict(type='SMMixClassifier', augments=[dict(type='SMMix')]),
    'mixup': dict(augments=[dict(type='Mixup', alpha=0.8)]),
    'cutmix': dict(augments=[dict(type='CutMix', alpha=1.0)]),
    'none': dict(augments=[]),
}


def labelled(labels):
    """Samples, with an activation map for those that look for one."""
    content = np.full((8, 8), 0.5, np.float16)
    return [DataSample(content=content).set_gt_label(label) for label in labels]


def normalised(method):
    preprocessor = method.get('data_preprocessor', {})
    return dict(method, data_preprocessor=dict(preprocessor, mean=[120.0] * 3, std=[60.0] * 3))


OPTIM_WRAPPER = dict(
    type='AsyncOptimWrapper',
    dtype='bfloat16',
    constructor='MergedOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-3, fused=True),
    paramwise_cfg=dict(norm_decay_mult=0.0),
    clip_grad=dict(max_norm=5.0),
)


class Watch(TorchDispatchMode):
    """Counts operators, and names those that make the host wait: reads, and copies between devices."""

    def __init__(self):
        super().__init__()
        self.operators = Counter()
        self.waits = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.operators[str(func)] += 1
        out = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, torch.Tensor)]
        # Numbers in tensors without dimensions travel with the kernel.
        crosses = len({tensor.device.type for tensor in tensors if tensor.ndim}) > 1
        if 'local_scalar_dense' in str(func) or (crosses and not (kwargs or {}).get('non_blocking')):
            self.waits.append(str(func))
        return out


def watch_on_fake_gpu(prepare):
    """Run a step on a GPU that need not be there: its tensors have no values, to need one is an error."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        step = prepare()
        watch = Watch()
        try:
            with watch:
                step()
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            watch.waits.append(str(error))
    return watch.waits


@pytest.mark.parametrize('method', METHODS)
def test_step_does_not_wait_for_the_device(method, build):
    def prepare():
        with torch.device('cuda'):
            model = build(**normalised(METHODS[method]))
        model.data_preprocessor._device = torch.device('cuda')
        model.observer = MixProgressHook().observe
        return lambda: step(model)

    def step(model):
        images = torch.zeros(4, 3, 64, 64, dtype=torch.uint8, device='cpu')
        samples = labelled(range(4))
        data = model.data_preprocessor(dict(inputs=images, data_samples=samples), True)
        assert data['inputs'].is_cuda
        assert all(tensor.is_cuda for tensor in tree_leaves(data['data_samples']))
        assert model.loss(**data)['loss'].is_cuda

    assert watch_on_fake_gpu(prepare) == []


@pytest.mark.parametrize(
    'wait',
    [
        lambda x: x.sum().item(),
        lambda x: float(x.sum()),
        lambda x: bool((x > 0).all()),
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: x[torch.arange(2)],
        lambda x: x + torch.ones(3).to('cuda'),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x.repeat_interleave(x.long()),
    ],
)
def test_such_a_wait_would_be_seen(wait):
    assert watch_on_fake_gpu(lambda: partial(wait, torch.ones(3, device='cuda')))


@pytest.mark.parametrize('method', METHODS)
def test_no_loop_over_samples(method, build):
    """As many operators for a large batch as for a small one."""
    model = build(**METHODS[method])
    model.observer = MixProgressHook().observe
    counts = []
    for num in (3, 12):
        samples = labelled([0] * num)
        with Watch() as watch:
            data = model.data_preprocessor(dict(inputs=torch.zeros(num, 3, 64, 64), data_samples=samples), True)
            np.random.seed(0)
            model.loss(**data)
        counts.append(watch.operators)
    assert counts[0] == counts[1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize('method', METHODS)
def test_step_does_not_wait_for_a_gpu(method, build):
    """torch's own word for it, from the batch to the optimizer's update."""
    model = build(**normalised(METHODS[method])).cuda()
    model.train()
    model.observer = MixProgressHook().observe
    optim_wrapper = build_optim_wrapper(model, OPTIM_WRAPPER)
    for index in range(4):
        images = torch.zeros(4, 3, 64, 64, dtype=torch.uint8).pin_memory()
        samples = labelled(range(4))
        torch.cuda.set_sync_debug_mode('error' if index else 'default')
        try:
            model.train_step(dict(inputs=images, data_samples=samples), optim_wrapper)
        finally:
            torch.cuda.set_sync_debug_mode('default')


@pytest.mark.parametrize('mixer', [MASKMIX, TRANSMIX, GRIDMIX, ATTENTIVE, TOKENMIX])
def test_mixing_takes_one_more_batch_of_memory(mixer):
    images = torch.randn(16, 3, 128, 128)
    mixer = BATCH_AUGMENTS.build(mixer)
    mixer.init_weights()
    plan = mixer.draw(images, None, torch.eye(7)[torch.zeros(16, dtype=torch.long)])
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        mixed = plan.mix_images(images)
    events = profiler.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == '[memory]')
    peak = max(itertools.accumulate(size for _, size in changes))
    assert mixed.nbytes <= peak <= 1.02 * mixed.nbytes
