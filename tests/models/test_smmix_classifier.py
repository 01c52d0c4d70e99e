# Copyright (c) MMMixPro contributors.
"""SMMix: the losses of a step against NumPy, what they cost, and what they leave behind."""

import copy
import math

import numpy as np
import pytest
import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmpretrain.models import VisionTransformer
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from oracles import smmix as oracle
from oracles.attention import class_row, full_attention, split_heads
from torch import distributed
from torch._dynamo.testing import CompileCounterWithBackend

from mmmixpro.attention import ClassRow
from mmmixpro.attention.base import PROVIDERS
from mmmixpro.engine.hooks import compile_parts
from mmmixpro.utils.checkpoint import StrictPretrainedInit

SMMIX = dict(type='SMMix')
MIXUP = dict(type='Mixup', alpha=0.8)
# Token stride and size of the images in pixels; grids of 5 x 9 and 4 x 5 tokens.
FAMILIES = dict(deit=(16, (80, 144)), pvt=(32, (128, 160)), cait=(16, (80, 144)))


@pytest.fixture
def cfg(classifier_cfg, backbone_cfg):
    def cfg(family='deit', type='SMMixClassifier', augments=(SMMIX,), backbone=None, **kwargs):
        backbone = backbone_cfg(dict(deit='vit').get(family, family), drop_path_rate=0.3, **(backbone or {}))
        return classifier_cfg(type=type, backbone=backbone, augments=augments, **kwargs)

    return cfg


@pytest.fixture
def smmix(cfg, redraw):
    def smmix(family='deit', **kwargs):
        model = redraw(MODELS.build(cfg(family, **kwargs)))
        if family == 'cait':  # of which the class token tells patches, and images, apart less
            model.backbone.ca_layers[-1].attn.q.weight.data *= 4
        else:
            model.head.layers.head.weight.data /= 4
        return model.train()

    return smmix


def anatomy(backbone):
    """Its patch embedding, blocks, attention that guides SMMix, and final norm."""
    if hasattr(backbone, 'ca_layers'):
        return backbone.patch_embed, backbone.layers, backbone.ca_layers[-1].attn, backbone.norm
    if hasattr(backbone, 'layers'):
        return backbone.patch_embed, backbone.layers, backbone.layers[-1].attn, backbone.ln1
    return backbone.stages[0].patch_embed, backbone.stages, backbone.stages[-1].blocks[-1].attn, backbone.norm


class Witness:
    """Takes down, of both forward passes, images, queries and keys, logits and tokens; and each cross entropy."""

    def __init__(self, model):
        self.seen = {}
        first, _, self.attn, norm = anatomy(model.backbone)
        layouts = dict(
            qkv=dict(q=('qkv', 0, 3), k=('qkv', 1, 3)),
            kv=dict(q=('q', 0, 1), k=('kv', 0, 2)),
            k=dict(q=('q', 0, 1), k=('k', 0, 1)),
        )
        self.parts = next(parts for layer, parts in layouts.items() if hasattr(self.attn, layer))
        first.register_forward_pre_hook(lambda _, args: self.note('image', args[0]))
        named = dict(tokens=norm, logits=model.head, losses=model.head.loss_module)
        named.update({layer: getattr(self.attn, layer) for layer, _, _ in self.parts.values()})
        for name, module in named.items():
            module.register_forward_hook(lambda _, args, out, name=name: self.note(name, out))

    def note(self, name, tensor):
        self.seen.setdefault(name, []).append(tensor.detach().double().numpy().copy())

    def __getitem__(self, name):
        first, second = self.seen[name]  # no more
        return first, second

    def scores(self, h, w):
        """Of the images before mixing."""
        queries, keys = (
            [split_heads(tokens, self.attn.num_heads, part, parts) for tokens in self[layer][0]]
            for layer, part, parts in (self.parts['q'], self.parts['k'])
        )
        # Where the class token is the only query, its row is taken in place of the patches'.
        score = class_row if queries[0].shape[1] == 1 else oracle.patch_scores
        return [score(full_attention(q, k), 1, h, w) for q, k in zip(queries, keys, strict=True)]


def expected_losses(model, witness, images, labels, stride):
    """The three of the batch, told from what the hooks saw."""
    clean, mixed = witness['image']
    np.testing.assert_array_equal(clean, images)
    h, w = (side // stride for side in images.shape[2:])
    scores = witness.scores(h, w)
    found = oracle.find_cells(mixed, clean, stride)
    weight, bias = (param.detach().double().numpy() for param in model.token_head.parameters())
    (clean_logits, logits), (_, tokens) = witness['logits'], witness['tokens']
    total = np.zeros(3)
    for i in range(len(mixed)):
        j, shown = oracle.partner_and_shown(found, i)
        side = math.isqrt(sum(source is not None for row in shown for source in row))
        assert shown == oracle.cell_sources(scores[i], scores[j], side)
        heads = [oracle.linear(weight, bias, token) for token in oracle.pooled_tokens(tokens[i, 1:], shown)]
        lam = oracle.lambda_area(side, h, w)
        total += oracle.losses(logits[i], clean_logits[i], clean_logits[j], *heads, labels[i], labels[j], lam, 0.1)
    return total / len(mixed)


@pytest.mark.parametrize('num', [1, 2, 5])
@pytest.mark.parametrize('family', FAMILIES)
def test_losses_are_those_of_the_equations(family, num, smmix, make_batch):
    stride, size = FAMILIES[family]
    model = smmix(family).double()
    images, samples, scores = make_batch(num, size, dtype=torch.float64)
    before = images.clone()
    for _ in range(3):
        witness = Witness(copied := copy.deepcopy(model))
        result = copied.loss(images, samples)
        assert set(result) == {'loss'}  # mmengine adds up whatever is called a loss
        mixed, fine = witness['losses']
        found = [mixed, fine, result['loss'].item() - mixed - fine]
        expected = expected_losses(copied, witness, images.numpy(), scores.numpy(), stride)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
        assert (expected > 1e-4).all()
    assert torch.equal(images, before)


@pytest.mark.parametrize('family', FAMILIES)
def test_bf16_autocast(family, smmix, make_batch):
    """Within bfloat16 of the equations; and weights that are cast for the first pass learn from the second."""
    stride, size = FAMILIES[family]
    model = smmix(family)
    images, samples, scores = make_batch(4, size)
    witness = Witness(model)
    with torch.autocast('cpu', torch.bfloat16):
        loss = model.loss(images, samples)['loss']
    assert loss.dtype == torch.float32
    expected = expected_losses(model, witness, images.double().numpy(), scores.numpy(), stride)
    np.testing.assert_allclose(loss.item(), expected.sum(), rtol=2e-2, atol=0)
    loss.backward()
    idle = {name for name, param in model.named_parameters() if param.grad is None or not param.grad.any()}
    # A bias that shifts all logits of a query alike is not seen by softmax.
    assert all(name.endswith(('attn.k.bias', 'attn.mix_logits.bias')) for name in idle), idle


@pytest.mark.parametrize('family', FAMILIES)
def test_every_parameter_learns(family, smmix, make_batch):
    model = smmix(family)
    images, samples, _ = make_batch(4, FAMILIES[family][1])
    model.loss(images, samples)['loss'].backward()
    assert all(param.grad is not None and param.grad.any() for param in model.parameters())


@pytest.mark.parametrize(('augment', 'passes'), [(SMMIX, 2), (MIXUP, 1), (dict(SMMIX, prob=0.0), 1)])
@pytest.mark.parametrize('family', FAMILIES)
def test_passes_of_a_step(family, augment, passes, smmix, make_batch):
    model = smmix(family, augments=[augment])
    first = anatomy(model.backbone)[0]
    calls = []
    first.register_forward_hook(lambda *_: calls.append(1))
    images, samples, _ = make_batch(4, FAMILIES[family][1])
    model.loss(images, samples)
    assert len(calls) == passes


@pytest.mark.parametrize('family', FAMILIES)
def test_first_pass_is_that_of_evaluation(family, smmix, make_batch):
    model = smmix(family)
    images, _, _ = make_batch(4, FAMILIES[family][1])
    logits, attention = model.motivate(images)
    repeated, _ = model.motivate(images)
    assert torch.equal(logits, repeated)  # drop path would not
    assert not logits.requires_grad
    assert not attention.requires_grad
    torch.testing.assert_close(logits, model.eval()(images, mode='tensor').detach())


@pytest.mark.parametrize('family', FAMILIES)
def test_modes_are_restored(family, smmix, make_batch):
    """Module by module, what was frozen in eval mode too; whatever fails."""
    model = smmix(family, backbone=dict(frozen_stages=2))
    model.head.eval()
    _, blocks, attn, _ = anatomy(model.backbone)
    blocks[0].eval()
    function = attn.scaled_dot_product_attention
    modes = {name: module.training for name, module in model.named_modules()}
    seen = []
    model.backbone.register_forward_pre_hook(lambda module, _: seen.append(module.training))
    images, samples, _ = make_batch(2, FAMILIES[family][1])

    model.loss(images, samples)
    assert seen == [False, True]
    assert {name: module.training for name, module in model.named_modules()} == modes

    def fail(*_):
        raise KeyError('in a forward pass')

    for failing in (attn, model.token_head):  # in the first pass, and behind the second
        hook = failing.register_forward_pre_hook(fail)
        with pytest.raises(KeyError):
            model.loss(images, samples)
        hook.remove()
        assert {name: module.training for name, module in model.named_modules()} == modes
        assert attn.scaled_dot_product_attention is function
        assert model.backbone.out_type == 'cls_token'


@pytest.mark.parametrize('family', FAMILIES)
def test_evaluation_is_that_of_image_classifier(family, smmix, cfg, make_batch):
    model = smmix(family)
    stock = cfg(family, type='ImageClassifier')
    stock.pop('train_cfg')
    stock = MODELS.build(stock)
    missing, unexpected = stock.load_state_dict(model.state_dict(), strict=False)
    assert not missing
    assert set(unexpected) == {'token_head.fc.weight', 'token_head.fc.bias'}
    images, _, _ = make_batch(3)
    results = []
    for each in (model, stock):
        each.eval()
        samples = [DataSample().set_gt_label(i) for i in range(3)]
        results.append(each.val_step(dict(inputs=images, data_samples=samples)))
    for ours, theirs in zip(*results, strict=True):
        assert torch.equal(ours.pred_score, theirs.pred_score)


@pytest.mark.parametrize('family', FAMILIES)
def test_strict_loading_leaves_the_token_head_alone(family, smmix, cfg, tmp_path):
    """The backbone needs no exception, a classifier a declared one."""
    model = smmix(family)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'smmix.pth')
    stock = cfg(family, type='ImageClassifier')
    stock.pop('train_cfg')
    stock = MODELS.build(stock)
    checkpoint = str(tmp_path / 'smmix.pth')
    StrictPretrainedInit(checkpoint, prefix='backbone.', strict=True)(stock.backbone)
    with pytest.raises(ValueError, match=r'unexpected .* \(2\): token_head\.fc\.bias, token_head\.fc\.weight'):
        StrictPretrainedInit(checkpoint, strict=True)(stock)
    StrictPretrainedInit(checkpoint, strict=True, allow_unexpected=['token_head.*'])(stock)
    for name, value in stock.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


@pytest.mark.parametrize('family', FAMILIES)
def test_initialisation_of_the_token_head(family, cfg):
    """As wide as the head, and drawn as both official models draw theirs."""
    model = MODELS.build(cfg(family))
    model.init_weights()
    weight, bias = model.token_head.parameters()
    assert weight.shape == (7, 32)
    assert weight.std().item() == pytest.approx(0.02, rel=0.2)
    assert not bias.any()


@pytest.fixture
def gloo():
    distributed.init_process_group('gloo', store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def test_no_parameter_is_left_out_under_ddp(gloo, smmix, make_batch):
    """Of Mixup's batches too, or the reduction would wait for the token head."""
    model = smmix(augments=[SMMIX, MIXUP], probs=[0.5, 0.5])
    optim_wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.01))
    wrapped = MMDistributedDataParallel(model, device_ids=None, broadcast_buffers=False)
    images, _, _ = make_batch(4)
    passes, counts = [], []
    model.backbone.patch_embed.register_forward_hook(lambda *_: passes.append(1))
    for step in range(8):
        samples = [DataSample().set_gt_label(i) for i in range(4)]
        np.random.seed(step)
        passes.clear()
        before = [param.clone() for param in model.token_head.parameters()]
        logs = wrapped.train_step(dict(inputs=images, data_samples=samples), optim_wrapper)
        assert set(logs) == {'loss'}
        counts.append(len(passes))
        for old, new in zip(before, model.token_head.parameters(), strict=True):
            assert torch.equal(old, new) is (counts[-1] == 1)
    assert set(counts) == {1, 2}


@pytest.mark.parametrize('family', FAMILIES)
def test_compiled_it_takes_the_same_steps(family, smmix, forget_graphs, learn):
    size = FAMILIES[family][1]
    eager = smmix(family, augments=[SMMIX, MIXUP], probs=[0.5, 0.5])
    compiled = copy.deepcopy(eager)
    counter = CompileCounterWithBackend('aot_eager')
    compile_parts(compiled, backend=counter, fullgraph=True, dynamic=False)
    for seed in range(8):
        torch.testing.assert_close(learn(compiled, seed, size), learn(eager, seed, size), rtol=1e-4, atol=1e-4)
    # The backbone of the first pass, with tokens, and of Mixup; the head with gradient and without.
    assert counter.frame_count == 5


def test_copies_compute_the_same(smmix, make_batch):
    model = smmix()
    images, samples, _ = make_batch(3)
    losses = []
    for each in (model, copy.deepcopy(model)):
        np.random.seed(1)
        torch.manual_seed(1)
        losses.append(each.loss(images, samples)['loss'])
    assert torch.equal(*losses)


def test_mixers_that_no_model_guides_stay_what_they_are(smmix, classifier_cfg, make_batch):
    augments = [dict(type='MixProBatchAugment', mask_size=32)]
    model = smmix(augments=augments)
    plain = MODELS.build(classifier_cfg(type='MixClassifier', augments=augments))
    plain.load_state_dict(model.state_dict(), strict=False)
    images, samples, _ = make_batch(4)
    losses = []
    for each in (model.eval(), plain.eval()):
        np.random.seed(1)
        torch.manual_seed(1)
        losses.append(each.loss(images, samples)['loss'])
    assert torch.equal(*losses)


def test_mixed_images_are_drawn(smmix):
    draw_mixed = pytest.importorskip('mmmixpro.visualization').draw_mixed
    model = smmix(data_preprocessor=dict(mean=[0.0] * 3, std=[1.0] * 3))
    png = draw_mixed(model, torch.rand(3, 3, 64, 64), torch.arange(3), [f'class {i}' for i in range(7)])
    assert png.startswith(b'\x89PNG')
    assert model.training


def test_image_that_patches_do_not_divide(smmix, make_batch):
    images, samples, _ = make_batch(2, (72, 72))
    with pytest.raises(ValueError, match='72 x 72 px do not divide into tokens of 16 px'):
        smmix().loss(images, samples)


@pytest.mark.parametrize(
    ('wrong', 'named'),
    [
        (dict(labels=dict(type='ProgressiveAttentionLabels')), 'ProgressiveAttentionLabels by attention'),
        (dict(neck=dict(type='GlobalAveragePooling')), r'GlobalAveragePooling.*Remove model\.neck'),
        (dict(head=dict(type='ClsHead')), r'ClsHead has num_classes and in_channels of \[None, None\].*LinearClsHead'),
    ],
)
def test_parts_that_do_not_go_with_it(wrong, named, cfg):
    with pytest.raises(ValueError, match=named):
        MODELS.build({**cfg(), **wrong})


def test_backbone_without_attention_between_patches(cfg, monkeypatch):
    class OnlyClassAttention(ClassRow):
        token_stride = 16

        def __init__(self, backbone):
            pass

    monkeypatch.setattr('mmmixpro.attention.base.PROVIDERS', {**PROVIDERS, VisionTransformer: OnlyClassAttention})
    with pytest.raises(ValueError, match=r'OnlyClassAttention of VisionTransformer gives class attention only.*Patch'):
        MODELS.build(cfg())
