# Copyright (c) MMMixPro contributors.
"""PuzzleMix at hand of the model: its saliency against finite differences, what a step costs and leaves behind."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import distributed
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils._python_dispatch import TorchDispatchMode

from mmmixpro.engine.hooks import compile_parts
from mmmixpro.mixing.puzzlemix import PuzzleMixPlan

PUZZLE = dict(type='PuzzleMix')
MIXUP = dict(type='Mixup', alpha=0.8)
# Size of the images in pixels.
FAMILIES = dict(deit=(48, 80), pvt=(64, 96))


@pytest.fixture
def puzzle(classifier_cfg, vit_cfg, pvt_cfg, redraw):
    def puzzle(family='deit', type='MixClassifier', augments=(PUZZLE,), backbone=None, **kwargs):
        backbone = dict(deit=vit_cfg, pvt=pvt_cfg)[family](drop_path_rate=0.3, **(backbone or {}))
        model = redraw(MODELS.build(classifier_cfg(type=type, backbone=backbone, augments=augments, **kwargs)))
        model.head.layers.head.weight.data /= 4
        return model.train()

    return puzzle


def patch_embed(model):
    return getattr(model.backbone, 'patch_embed', None) or model.backbone.stages[0].patch_embed


def losses(model, images, scores):
    """Of each image, in eval mode."""
    logits = copy.deepcopy(model).eval()(images, mode='tensor')
    return torch.stack(
        [model.head.loss_module(logit[None], score[None]) for logit, score in zip(logits, scores, strict=True)]
    )


@pytest.mark.parametrize('family', FAMILIES)
def test_gradients_are_finite_differences(family, puzzle, make_batch):
    """Each image's are those of its own loss, label smoothing included, whatever the batch; in eval mode."""
    model = puzzle(family).double()
    images, _, scores = make_batch(3, FAMILIES[family], dtype=torch.float64)
    scores, before = scores.double(), images.clone()
    gradients = model.image_gradients(images, scores)
    assert torch.equal(gradients, model.image_gradients(images, scores))  # drop path would not
    assert not gradients.requires_grad
    for _ in range(3):
        way = torch.randn_like(images)
        with torch.no_grad():
            slopes = (losses(model, images + 1e-6 * way, scores) - losses(model, images - 1e-6 * way, scores)) / 2e-6
        torch.testing.assert_close((gradients * way).sum((1, 2, 3)), slopes, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(model.image_gradients(images[1:2], scores[1:2]), gradients[1:2])
    assert torch.equal(images, before)
    assert not images.requires_grad


def test_one_pass_more_forth_and_one_back_to_the_images(puzzle, make_batch):
    model = puzzle(augments=[PUZZLE, MIXUP], probs=[0.5, 0.5])
    images, samples, _ = make_batch(4, FAMILIES['deit'])
    forth, back, weights = [], [], []
    patch_embed(model).register_forward_hook(lambda *_: forth.append(1))
    model.backbone.layers[0].register_full_backward_hook(lambda *_: back.append(1))
    model.head.layers.head.weight.register_post_accumulate_grad_hook(lambda _: weights.append(1))
    seen = set()
    for seed in range(8):
        np.random.seed(seed)
        for calls in (forth, back, weights):
            calls.clear()
        loss = model.loss(images, samples)['loss']
        assert not weights
        first = len(back)
        loss.backward()
        assert (len(back), len(weights)) == (first + 1, 1)
        seen.add((len(forth), first))
    assert seen == {(2, 1), (1, 0)}


@pytest.mark.parametrize('family', FAMILIES)
def test_accumulated_gradients_are_left_alone(family, puzzle, make_batch):
    model = puzzle(family)
    held = {}
    for name, param in model.named_parameters():
        param.grad = torch.randn_like(param)
        held[name] = param.grad, param.grad.clone()
    images, _, scores = make_batch(4, FAMILIES[family])
    plan = model.mixers[0].plan(images, model, scores)
    assert isinstance(plan, PuzzleMixPlan)
    for name, param in model.named_parameters():
        grad, before = held[name]
        assert param.grad is grad
        assert torch.equal(grad, before)
    assert not any(tensor.requires_grad for tensor in (plan.mask, plan.lam))


def test_modes_and_statistics_are_left_alone(puzzle, make_batch):
    """Module by module, what was frozen in eval mode too; whatever fails."""
    model = puzzle(backbone=dict(frozen_stages=2))
    norm = torch.nn.BatchNorm2d(3)
    first = model.backbone.patch_embed
    first.projection = torch.nn.Sequential(norm, torch.nn.Dropout(0.5), first.projection)
    model.head.eval()
    model.backbone.layers[0].eval()
    modes = {name: module.training for name, module in model.named_modules()}
    state = {name: value.clone() for name, value in model.state_dict().items()}
    seen = []
    model.backbone.register_forward_pre_hook(lambda module, _: seen.append(module.training))
    images, _, scores = make_batch(2, FAMILIES['deit'])
    model.image_gradients(images, scores)
    assert seen == [False]
    assert {name: module.training for name, module in model.named_modules()} == modes
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name]), name
    assert norm.num_batches_tracked == 0

    def fail(*_):
        raise KeyError('in a forward pass')

    model.backbone.layers[-1].register_forward_pre_hook(fail)
    with pytest.raises(KeyError):
        model.image_gradients(images, scores)
    assert {name: module.training for name, module in model.named_modules()} == modes


def test_the_gradients_of_the_model_guide(puzzle, make_batch):
    model = puzzle(augments=[dict(type='PuzzleMix', n_labels=2)])
    images, _, scores = make_batch(4, FAMILIES['deit'])
    gradients = model.image_gradients(images, scores)
    other = torch.rand(4, 1, 3, 5).pow(4).repeat_interleave(16, 2).repeat_interleave(16, 3) * gradients
    guides = [model, *(SimpleNamespace(data_preprocessor=model.data_preprocessor) for _ in range(2))]
    guides[1].image_gradients = lambda *_: gradients
    guides[2].image_gradients = lambda *_: other
    differ = False
    for seed in range(10):
        plans = []
        for guide in guides:
            np.random.seed(seed)
            torch.manual_seed(seed)
            plans.append(model.mixers[0].draw(images, guide, scores))
        assert torch.equal(plans[0].mask, plans[1].mask)
        assert torch.equal(plans[0].own_gather, plans[1].own_gather)
        differ |= not torch.equal(plans[0].mask, plans[2].mask)
    assert differ


@pytest.mark.parametrize('autocast', [False, True])
@pytest.mark.parametrize('family', FAMILIES)
def test_the_step_learns_as_if_the_images_came_mixed(family, autocast, puzzle, make_batch):
    """Under autocast too, where weights that are cast for the first pass serve the second."""
    model = puzzle(family)
    plain, mixer, plans = copy.deepcopy(model), model.mixers[0], []
    images, samples, scores = make_batch(4, FAMILIES[family])

    def watched(*args, draw=mixer.draw):
        plans.append(draw(*args))
        torch.manual_seed(1)  # of drop path
        return plans[0]

    mixer.draw = watched
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        loss = model.loss(images, samples)['loss']
    (plan,) = plans
    torch.manual_seed(1)
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        expected, *_ = plain._loss(plan, plan.mix_images(images), scores, scores)
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert torch.equal(loss, expected)
    loss.backward()
    expected.backward()
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        assert one.grad.any()
        assert torch.equal(one.grad, other.grad)


@pytest.mark.parametrize(
    'labels', [dict(type='AttentionLabels', area_weight=0.5), dict(type='ProgressiveAttentionLabels')]
)
def test_labels_by_attention_see_the_shares(labels, puzzle, make_batch):
    model = puzzle(labels=labels)
    images, samples, _ = make_batch(4, FAMILIES['deit'])
    for _ in range(4):
        model.loss(images, samples)['loss'].backward()
    assert all(param.grad.isfinite().all() for param in model.parameters())


class Count(TorchDispatchMode):
    """Counts operators, and those that read numbers."""

    def __init__(self):
        super().__init__()
        self.operators, self.reads = 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.operators += 1
        self.reads += 'local_scalar_dense' in str(func)
        return func(*args, **(kwargs or {}))


def test_one_copy_to_the_host_for_any_batch(puzzle, make_batch, monkeypatch):
    """And one back; no loop over the samples on the device."""
    crossings = []
    for owner, name in ((torch.Tensor, 'cpu'), (torch, 'from_numpy')):
        original = getattr(owner, name)
        monkeypatch.setattr(
            owner, name, lambda *args, original=original, name=name: (crossings.append(name), original(*args))[1]
        )
    model = puzzle(augments=[dict(type='PuzzleMix', min_blocks=3, max_blocks=3)])
    counts = []
    for num in (2, 12):
        images, _, scores = make_batch(num, FAMILIES['deit'])
        crossings.clear()
        with Count() as count:
            plan = model.mixers[0].draw(images, model, scores)
            plan.mix_images(images)
        assert crossings == ['cpu', 'from_numpy']
        assert not count.reads
        counts.append(count.operators)
    assert counts[0] == counts[1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_waits_for_a_gpu_do_not_grow_with_the_batch(puzzle, recwarn):
    model = puzzle().cuda()
    counts = []
    for num in (2, 2, 32):
        images, scores = torch.randn(num, 3, 64, 64, device='cuda'), torch.eye(7, device='cuda')[torch.arange(num) % 7]
        torch.cuda.synchronize()
        recwarn.clear()
        torch.cuda.set_sync_debug_mode('warn')
        try:
            plan = model.mixers[0].draw(images, model, scores)
            plan.mix_images(images)
        finally:
            torch.cuda.set_sync_debug_mode('default')
        counts.append(sum('synchroniz' in str(warning.message) for warning in recwarn))
    assert counts[1] == counts[2] <= 2


@pytest.fixture
def gloo():
    distributed.init_process_group('gloo', store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def test_ddp_reduces_once_a_step(gloo, puzzle, make_batch):
    model = puzzle(augments=[PUZZLE, MIXUP], probs=[0.5, 0.5])
    plain = copy.deepcopy(model)
    wrapped = MMDistributedDataParallel(model, device_ids=None, broadcast_buffers=False)
    reduced, within = [], []
    gradients = model.image_gradients

    def watched(*args):
        result = gradients(*args)
        within.append(len(reduced))
        return result

    model.image_gradients = watched

    def hook(_, bucket):
        reduced.append(bucket.index())
        future = torch.futures.Future()
        future.set_result(bucket.buffer())
        return future

    wrapped.register_comm_hook(None, hook)
    images, _, _ = make_batch(4, FAMILIES['deit'])
    ways = [(each, OptimWrapper(torch.optim.SGD(each.parameters(), lr=0.01))) for each in (plain, wrapped)]
    buckets = []
    for seed in range(6):
        reduced.clear()
        for each, optim_wrapper in ways:
            np.random.seed(seed)
            torch.manual_seed(seed)
            samples = [DataSample().set_gt_label(i) for i in range(4)]
            each.train_step(dict(inputs=images, data_samples=samples), optim_wrapper)
        buckets.append(tuple(reduced))
    assert len(set(buckets)) == 1
    assert len(set(buckets[0])) == len(buckets[0]) > 0
    assert within
    assert set(within) == {0}
    for one, other in zip(plain.parameters(), model.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize('family', FAMILIES)
def test_compiled_it_takes_the_same_steps(family, puzzle, forget_graphs, learn):
    eager = puzzle(family, augments=[PUZZLE, MIXUP], probs=[0.5, 0.5])
    compiled = copy.deepcopy(eager)
    counter = CompileCounterWithBackend('aot_eager')
    compile_parts(compiled, backend=counter, fullgraph=True, dynamic=False)
    for seed in range(6):
        torch.testing.assert_close(
            learn(compiled, seed, FAMILIES[family]), learn(eager, seed, FAMILIES[family]), rtol=1e-4, atol=1e-5
        )
    # The backbone in training and in eval mode, and the head.
    assert counter.frame_count == 3


def test_activations_checkpointed_so_that_images_get_no_gradient(classifier_cfg):
    backbone = dict(type='ResNet', depth=18, stem_channels=8, base_channels=8, with_cp=True)
    head = dict(type='LinearClsHead', num_classes=7, in_channels=64)
    cfg = classifier_cfg(type='MixClassifier', backbone=backbone, augments=[PUZZLE])
    cfg.update(neck=dict(type='GlobalAveragePooling'), head=head)
    model = MODELS.build(cfg)
    with pytest.raises(ValueError, match='ResNet checkpoints its activations.*with_cp=False'):
        model.loss(torch.randn(2, 3, 64, 64), torch.eye(7)[:2])
