# Copyright (c) MMMixPro contributors.
"""The loop against one stock test for each kind and ratio, of images that the transforms have hidden patches of."""

import numpy as np
import pytest
import torch
from mmpretrain.registry import TASK_UTILS
from mmpretrain.structures import DataSample
from oracles import occlusion as oracle

from mmmixpro.attention import class_attention
from mmmixpro.datasets import NonSalientOcclusion, RandomOcclusion, SalientOcclusion
from mmmixpro.engine.loops import OwnAttentionSaliency, Saliency

RATIOS = [0.0, 0.3, 0.5, 0.7, 1.0]
KINDS = ('random', 'salient', 'non-salient')
COMPACT = [dict(type='CompactAccuracy')]


def loop(**kwargs):
    return dict(dict(type='OcclusionTestLoop', ratios=RATIOS, grid=5), **kwargs)


@pytest.fixture
def seen(monkeypatch):
    """What models are given: batches of images as they come into the data preprocessor of a model."""

    def seen(model):
        images = []
        forward = model.data_preprocessor.forward

        def record(data, training=False):
            images.append(data['inputs'].clone())
            return forward(data, training)

        monkeypatch.setattr(model.data_preprocessor, 'forward', record)
        return images

    return seen


@pytest.mark.parametrize(('kind', 'size'), [('ImageClassifier', (64, 64)), ('PALClassifier', (48, 80))])
def test_each_setting_is_a_stock_test(make_runner, pictures, classifier, kind, size):
    model = classifier(kind)
    data = pictures(30, size=size, content=(3, 3))
    saliency = dict(type='StoredMapSaliency')
    results = make_runner(model, data, loop(saliency=saliency, seed=7), COMPACT).test()
    assert list(results) == [f'occlusion/{kind}/{p}' for p in (0,) for kind in KINDS] + [
        f'occlusion/{kind}/{p}' for p in (30, 50, 70) for kind in KINDS
    ] + [f'occlusion/{kind}/100' for kind in KINDS]
    clean = make_runner(model, pictures(30, size=size)).test()['accuracy/top1']
    assert 0 < clean < 100
    for ratio in RATIOS:
        changes = dict(
            random=RandomOcclusion(ratio, grid=5, seed=7),
            salient=SalientOcclusion(ratio, grid=5),
            **{'non-salient': NonSalientOcclusion(ratio, grid=5)},
        )
        for name, change in changes.items():
            stock = make_runner(model, pictures(30, size=size, content=(3, 3), change=change)).test()
            assert results[f'occlusion/{name}/{100 * ratio:g}'] == stock['accuracy/top1']
            assert ratio or stock['accuracy/top1'] == clean
    assert len(set(results.values())) > 4


@pytest.mark.parametrize('grid', [5, (3, 7)])
def test_what_the_model_sees(make_runner, pictures, classifier, seen, grid):
    """Exactly the asked patches are zero before normalisation; salient and non-salient ones make up the image."""
    model, data = classifier(), pictures(6, content=(4, 4))
    batches = seen(model)
    ratios = [0.0, 0.37, 0.5, 0.63, 1.0]
    saliency = dict(type='StoredMapSaliency')
    make_runner(model, data, loop(ratios=ratios, grid=grid, saliency=saliency), COMPACT).test()
    grid = (grid, grid) if isinstance(grid, int) else grid
    patches = grid[0] * grid[1]
    # Batches of 4 and 2, each in 11 settings, from the last ratio to the first.
    names = [(1.0, 'all'), *((ratio, kind) for ratio in ratios[-2:0:-1] for kind in KINDS[::-1]), (0.0, 'none')]
    assert len(batches) == 2 * len(names) == 22
    hidden = {}
    for i, name in enumerate(names):
        images = torch.cat([batches[i], batches[len(names) + i]]).permute(0, 2, 3, 1).numpy()
        assert images.dtype == np.uint8
        hidden[name] = [oracle.hidden_patches(image, grid) for image in images]
        for image, original, found in zip(images, data.images, hidden[name], strict=True):
            np.testing.assert_array_equal(image, oracle.occlude(original, found, grid))
    for ratio in ratios[1:-1]:
        for index in range(6):
            count = oracle.count(ratio, patches)
            salient = hidden[ratio, 'salient'][index]
            assert len(hidden[ratio, 'random'][index]) == len(salient) == count
            assert salient == sorted(oracle.salient_order(data.maps[index], grid, (64, 64))[:count])
            rest = hidden[round(1 - ratio, 2), 'non-salient'][index]
            assert sorted(salient + rest) == list(range(patches))
    assert not any(hidden[0.0, 'none'])
    assert all(found == list(range(patches)) for found in hidden[1.0, 'all'])


def test_one_pass(make_runner, pictures, classifier, monkeypatch):
    """Images are read once, salience is computed once a batch, and the classifier sees no more than it must."""
    calls = []
    compute = OwnAttentionSaliency.__call__
    monkeypatch.setattr(OwnAttentionSaliency, '__call__', lambda *args: calls.append(0) or compute(*args))
    model, data = classifier(), pictures(10)
    runner = make_runner(model, data, loop(), COMPACT)
    forwards = []
    monkeypatch.setattr(model, 'predict', lambda *args, p=model.predict: forwards.append(0) or p(*args))
    results = runner.test()
    assert runner.test_dataloader.dataset.read == dict.fromkeys(range(10), 1)
    assert len(calls) == 3
    assert len(forwards) == 3 * (3 * 3 + 2)
    assert len(results) == 15


def test_salient_patches_are_those_of_the_models_attention(make_runner, pictures, classifier, seen):
    model, data = classifier(), pictures(4)
    inputs = model.data_preprocessor(dict(inputs=torch.stack([data[i]['inputs'] for i in range(4)])))['inputs']
    with torch.no_grad(), class_attention(model.eval().backbone, (64, 64)) as tap:
        model.backbone(inputs)
    batches = seen(model)
    runner = make_runner(model, data, loop(ratios=[0.3], kinds=['salient'], grid=4), COMPACT)
    runner.test()
    # The first batch is that of the attention itself.
    for image, attention in zip(batches[1], tap.map, strict=True):
        hidden = oracle.hidden_patches(image.permute(1, 2, 0).numpy(), (4, 4))
        assert hidden == sorted(oracle.salient_order(attention.numpy(), (4, 4), (64, 64))[:5])
    assert runner.test_loop.describe() == (
        '4 x 4 patches, salient by class attention of the model under test (VisionTransformer, mean over heads)'
    )
    assert runner.message_hub.get_info('OcclusionTestLoop') == runner.test_loop.describe()


def test_order_and_batches_do_not_matter(make_runner, pictures, classifier):
    saliency, model = dict(type='StoredMapSaliency'), classifier()
    first = make_runner(model, pictures(20, content=(4, 4)), loop(saliency=saliency), COMPACT).test()
    loaders = [
        dict(batch_size=7, sampler=dict(type='DefaultSampler', shuffle=True)),
        dict(batch_size=1, num_workers=2),
        dict(collate_fn=dict(type='pseudo_collate')),
    ]
    for loader in loaders:
        again = make_runner(model, pictures(20, content=(4, 4)), loop(saliency=saliency), COMPACT, loader).test()
        assert again == first
    other = make_runner(model, pictures(20, content=(4, 4)), loop(saliency=saliency, seed=1), COMPACT).test()
    changed = {key for key in first if first[key] != other[key]}
    assert changed
    assert all(key.startswith('occlusion/random/') for key in changed)


def test_other_evaluators(make_runner, pictures, classifier):
    """The first value of an evaluator is the setting's; more of them stand below."""
    evaluator = [dict(type='Accuracy', topk=(1, 5)), dict(type='SingleLabelMetric', items=['recall'])]
    data, cfg = pictures(10), loop(ratios=[0.0, 0.125], kinds=['random'], saliency=None)
    model = classifier()
    results = make_runner(model, data, cfg, evaluator).test()
    for percent in ('0', '12.5'):
        key = f'occlusion/random/{percent}'
        names = {key, f'{key}/accuracy/top5', f'{key}/single-label/recall'}
        assert names == {name for name in results if name.split('/')[2] == percent}
    stock = make_runner(model, data, evaluator=evaluator).test()
    assert list(results.values())[:3] == list(stock.values())


def test_mixed_precision_predicts_alone(make_runner, pictures, classifier, seen):
    """What is hidden does not depend on it."""
    images = []
    for fp16 in (False, True):
        model = classifier()
        batches = seen(model)
        results = make_runner(model, pictures(4), loop(fp16=fp16, ratios=[0.4]), COMPACT).test()
        images.append(torch.cat(batches))
        assert len(results) == 3
    assert torch.equal(*images)
    dtypes = []
    head = model.head.layers.head
    head.register_forward_hook(lambda module, args, output: dtypes.append(output.dtype))
    make_runner(model, pictures(4), loop(fp16=True, ratios=[0.4]), COMPACT).test()
    assert set(dtypes) == {torch.bfloat16}


def test_hooks_are_given_whole_images(make_runner, pictures, classifier, monkeypatch):
    model = classifier()
    runner = make_runner(model, pictures(4), loop(), COMPACT)
    given = []
    call = runner.call_hook

    def call_hook(name, **kwargs):
        if name == 'after_test_iter':
            given.append(torch.stack([sample.pred_score for sample in kwargs['outputs']]))
        call(name, **kwargs)

    monkeypatch.setattr(runner, 'call_hook', call_hook)
    runner.test()
    batch = dict(inputs=torch.stack([pictures(4)[i]['inputs'] for i in range(4)]), data_samples=[DataSample()] * 4)
    expected = model(model.data_preprocessor(batch)['inputs']).softmax(1)
    torch.testing.assert_close(given, [expected.detach()])


@TASK_UTILS.register_module(force=True)
class TopLeft(Saliency):
    """One of somebody's own."""

    def prepare(self, model):
        self.model = model

    def __call__(self, images, data_samples):
        return torch.tensor([[1.0, 0.0], [0.0, 0.0]]).expand(len(images), 2, 2)

    def describe(self):
        return 'the top left'


def test_a_saliency_of_ones_own(make_runner, pictures, classifier, seen):
    model = classifier()
    batches = seen(model)
    cfg = loop(ratios=[0.25], kinds=['salient'], grid=2, saliency=dict(type='TopLeft'))
    runner = make_runner(model, pictures(4), cfg, COMPACT)
    runner.test()
    assert not batches[0][:, :, :32, :32].any()
    assert batches[0][:, :, :32, 32:].all()
    assert runner.test_loop.describe() == '2 x 2 patches, salient by the top left'
