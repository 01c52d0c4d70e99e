# Copyright (c) MMMixPro contributors.
"""What is logged of mixing equals what the oracles compute of the same batches, image by image."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dist import all_gather_object
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS, MODELS
from mmpretrain.structures import DataSample
from oracles.attention import softmax
from oracles.labels import cosine, lambda_attention
from oracles.mixing import lambda_area, mix_labels
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import Dataset

from mmmixpro.engine import MixProgressHook
from mmmixpro.engine.hooks import mix_progress_hook
from mmmixpro.models import MixClassifier

MASKMIX = dict(type='MixProBatchAugment', mask_size=16, mode='elem')
STOCK = [dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]
TENSORBOARD = dict(vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')])


@DATASETS.register_module(force=True)
class ProgressNoise(Dataset):
    """22 images of noise."""

    def __len__(self):
        return 22

    def __getitem__(self, index):
        image = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(index))
        return dict(inputs=image, data_samples=DataSample().set_gt_label(index % 7))


class Witness:
    """Batches as the label policies and the loss are given them."""

    def __init__(self, model):
        self.batches = []
        mix = model.mix

        def mixed(augment, images, scores):
            plan, *rest = mix(augment, images, scores)
            name = 'none' if augment is None or (plan is None and hasattr(augment, 'draw')) else type(augment).__name__
            self.batches.append(dict(augment=name, plan=plan, scores=scores))
            return plan, *rest

        def labelled(module, args, output):
            self.batches[-1]['attention'] = args[1]

        def judged(module, args, kwargs):
            if 'logits' not in self.batches[-1]:  # SMMix calls it once more, on tokens
                self.batches[-1].update(logits=args[0].detach().clone(), target=args[1].detach().clone())

        model.mix = mixed
        model.labels.register_forward_hook(labelled)
        model.head.loss_module.register_forward_pre_hook(judged, with_kwargs=True)

    @staticmethod
    def expect(batches):
        """The line after these batches."""
        values = dict(acc=[], lam=[], lam_attn=[], alpha=[])
        for batch in batches:
            logits, target = batch['logits'].numpy(), batch['target'].numpy()
            for z, y in zip(logits, target, strict=True):
                values['acc'].append(y[int(z.argmax())] == y.max())
            plan, scores = batch['plan'], batch['scores'].numpy()
            if plan is None:
                continue
            attention = batch['attention']
            masks = plan.pixel_mask().expand(len(scores), -1, -1).numpy()
            for i, (j, mask) in enumerate(zip(plan.partner.tolist(), masks, strict=True)):
                area = lambda_area(mask)
                values['lam'].append(area)
                if attention is not None:
                    values['lam_attn'].append(lambda_attention(attention[i].numpy(), mask, nearest=False))
                    label = mix_labels(scores[i], scores[j], area, 1 - area)
                    values['alpha'].append(cosine(softmax(logits[i]), label))
        line = {key: np.mean(value) for key, value in values.items() if value}
        if 'alpha' in line:
            line['alpha_std'] = math.sqrt(np.mean([(value - line['alpha']) ** 2 for value in values['alpha']]))
        names = [batch['augment'] for batch in batches]
        return line, {name: names.count(name) / len(names) for name in names}


@pytest.fixture
def train(tmp_path, classifier_cfg, monkeypatch):
    """Train 11 iterations an epoch; give the lines of the log, the batches, and the runner."""

    def train(name='run', epochs=2, options=None, **model):
        backbone = dict(
            type='VisionTransformer',
            arch=dict(embed_dims=32, num_layers=1, num_heads=2, feedforward_channels=32),
            img_size=32,
            patch_size=16 if 'SMMix' not in str(model) else 4,
        )
        witnesses = []
        if model.pop('watch', True):
            init = MixClassifier.__init__

            def watched(self, *args, **kwargs):
                init(self, *args, **kwargs)
                witnesses.append(Witness(self))

            monkeypatch.setattr(MixClassifier, '__init__', watched)
        cfg = Config(
            dict(
                default_scope='mmpretrain',
                work_dir=str(tmp_path / name),
                model=classifier_cfg(**{**dict(backbone=backbone, augments=[MASKMIX]), **model}),
                train_dataloader=dict(
                    batch_size=2,
                    num_workers=0,
                    dataset=dict(type='ProgressNoise'),
                    sampler=dict(type='DefaultSampler', shuffle=False),
                    collate_fn=dict(type='default_collate'),
                ),
                train_cfg=dict(by_epoch=True, max_epochs=epochs),
                optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
                default_hooks=dict(
                    logger=dict(type='LoggerHook', interval=5), mix_progress=dict(type='MixProgressHook')
                ),
                randomness=dict(seed=3),
                log_level='ERROR',
                experiment_name=f'{tmp_path.name}_{name}',
            )
        )
        cfg.merge_from_dict(options or {})
        runner = Runner.from_cfg(cfg)
        runner.train()
        log = max(Path(cfg.work_dir).glob('*/vis_data/scalars.json'))
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        return lines, witnesses[0].batches if witnesses else None, runner

    return train


def progress(line):
    """Values and shares of a line of the log."""
    mix = {key[4:]: value for key, value in line.items() if key.startswith('mix/')}
    shares = {key[6:]: value for key, value in mix.items() if key.startswith('share_')}
    return {key: value for key, value in mix.items() if not key.startswith('share_')}, shares


def check(lines, batches):
    """Each line tells of the five batches before it, within its epoch."""
    assert [line['step'] for line in lines] == [5, 10, 16, 21]
    assert len(batches) == 22
    for line in lines:
        expected, names = Witness.expect(batches[line['step'] - 5 : line['step']])
        values, shares = progress(line)
        assert values == pytest.approx(expected, abs=2e-6)
        assert {name: share for name, share in shares.items() if share} == pytest.approx(names)


MODELS_CFG = {
    'mixpro': dict(),
    'mixpro_and_stock': dict(augments=[MASKMIX, *STOCK], probs=[0.4, 0.2, 0.2]),
    'transmix': dict(
        type='MixClassifier', augments=[MASKMIX], labels=dict(type='AttentionLabels', area_weight=0.0, nearest=False)
    ),
    'area': dict(type='MixClassifier', augments=[dict(type='TransMixBatchAugment')]),
    'prob': dict(augments=[dict(MASKMIX, prob=0.5)]),
    'smmix': dict(type='SMMixClassifier', augments=[dict(type='SMMix'), STOCK[0]]),
    'stock': dict(type='MixClassifier', augments=STOCK),
    'unmixed': dict(augments=[]),
}


@pytest.mark.parametrize('name', MODELS_CFG)
def test_lines_tell_what_happened(name, train):
    lines, batches, _ = train(**MODELS_CFG[name])
    for batch in batches:
        if name == 'transmix':
            # Alpha is PAL's: it has none, whatever the oracle makes of its logits.
            assert batch['attention'] is not None
    if name == 'transmix':
        for line in lines:
            assert 'mix/lam_attn' in line and not {'mix/alpha', 'mix/alpha_std'} & line.keys()
            values = Witness.expect(batches[line['step'] - 5 : line['step']])[0]
            assert line['mix/lam_attn'] == pytest.approx(values['lam_attn'], abs=2e-6)
    else:
        check(lines, batches)


def test_augments_that_mixed_nothing_have_a_share_of_zero(train):
    lines, _, _ = train(augments=[MASKMIX, STOCK[0]], probs=[1 - 2e-9, 1e-9])
    assert all(progress(line)[1] == dict(MixProBatchAugment=1, Mixup=0, none=0) for line in lines)


def test_columns_end_with_what_they_tell_of(train):
    """A value of earlier batches would look like one of these."""
    schedule = [dict(action_epoch=2, batch_augments=dict(augments=[STOCK[0]], probs=[0.5]))]
    switch = dict(type='SwitchRecipeHook', schedule=schedule)
    lines, batches, _ = train(options={'default_hooks.switch': switch})
    assert 'mix/alpha' in lines[1]
    for line in lines[2:]:
        values, shares = progress(line)
        assert values.keys() == {'acc'}
        assert shares.keys() == {'Mixup', 'none'}
    check(lines, batches)


@pytest.mark.parametrize(
    'options',
    [
        {'default_hooks.runtime_info': dict(type='DeferredRuntimeInfoHook')},
        {'optim_wrapper.type': 'AsyncOptimWrapper', 'optim_wrapper.dtype': 'bfloat16'},
        {'optim_wrapper.accumulative_counts': 3},
        {'default_hooks.compile': dict(type='CompileHook', backend='eager')},
    ],
)
def test_whatever_else_the_run_does(options, train):
    lines, batches, _ = train(options=options)
    check(lines, batches)


def test_the_model_trains_as_without_it_and_keeps_nothing(train):
    _, _, runner = train('with', watch=False)
    lines, _, other = train('without', watch=False, options={'default_hooks.mix_progress.type': 'ParamSchedulerHook'})
    assert not any(key.startswith('mix/') for line in lines for key in line)
    saved, expected = (torch.load(one.message_hub.get_info('last_ckpt'), weights_only=False) for one in (runner, other))
    for name, weight in expected['state_dict'].items():
        assert torch.equal(weight, saved['state_dict'][name])
    assert runner.model.observer is None
    hub = saved['message_hub']
    assert not any('mix/' in key for key in [*hub['log_scalars'], *hub['resumed_keys'], *hub['runtime_info']])


def test_a_resumed_run_logs_the_same(train):
    whole, _, _ = train('whole')
    train('cut', epochs=1)
    resumed, _, _ = train('cut', options=dict(resume=True), epochs=2)
    # Two runs in one second share a log.
    assert [line['step'] for line in resumed[-2:]] == [16, 21]
    assert len(resumed) <= 4
    # The stock samplers and draws differ on resuming; the columns must not.
    assert [line.keys() for line in resumed[-2:]] == [line.keys() for line in whole[2:]]


def test_short_epochs_and_the_end_of_longer_ones(train):
    """Read exactly where the logger logs."""
    lines, batches, _ = train(options={'default_hooks.logger.interval': 50})
    assert [line['step'] for line in lines] == [11, 22]
    assert lines[1]['mix/lam'] == pytest.approx(Witness.expect(batches[11:])[0]['lam'], abs=1e-6)
    lines, batches, _ = train('last', options={'default_hooks.logger.ignore_last': False})
    assert [line['step'] for line in lines] == [5, 10, 11, 16, 21, 22]
    assert lines[2]['mix/lam'] == pytest.approx(Witness.expect(batches[10:11])[0]['lam'], abs=1e-6)


def test_other_models_and_runs_without_logger(train):
    lines, _, _ = train(type='ImageClassifier', watch=False, data_preprocessor=dict(num_classes=7))
    assert not any(key.startswith('mix/') for line in lines for key in line)
    hook = MixProgressHook()
    model = MODELS.build(dict(type='ImageClassifier', backbone=dict(type='LeNet5', num_classes=3)))
    runner = type('Run', (), dict(model=model, hooks=[hook, CheckpointHook()]))()
    hook.before_train(runner)
    assert not hasattr(model, 'observer')


def test_tensorboard(train, tmp_path):
    accumulator = pytest.importorskip('tensorboard.backend.event_processing.event_accumulator')
    visualizer = dict(type='UniversalVisualizer', name=f'board_{tmp_path.name}', **TENSORBOARD)
    lines, _, _ = train(options=dict(visualizer=visualizer))
    (events,) = tmp_path.glob('run/*/vis_data/events.*')
    board = accumulator.EventAccumulator(str(events))
    board.Reload()
    for key in (key for key in lines[0] if key.startswith('mix/')):
        assert [(point.step, point.value) for point in board.Scalars(key)] == [
            (line['step'], pytest.approx(line[key], abs=1e-6)) for line in lines
        ]


def test_ranks_are_taken_together(monkeypatch):
    """By number of images: a rank without a plan in this interval says nothing of lambda."""
    hook, other = MixProgressHook(), MixProgressHook()
    scores = torch.eye(4)
    plan = type('Plan', (), dict(lam=torch.tensor([0.25, 0.5, 0.0, 0.75])))()
    weights = type('Weights', (), dict(alpha=torch.tensor([0.1, 0.2, 0.3, 0.4])))()
    hook.observe(object(), plan, scores, scores, weights)
    hook.observe(None, None, scores.flip(0), scores, None)
    other.observe(None, None, scores[:2], scores[:2], None)
    monkeypatch.setattr(mix_progress_hook, '_name', lambda augment: 'x')
    logged = mix_progress_hook._summary(['object'], [hook._read(), other._read()])
    assert logged == pytest.approx(
        dict(acc=6 / 10, lam=0.375, alpha=0.25, alpha_std=0.0125**0.5, share_object=1 / 3, share_none=2 / 3)
    )
    assert all_gather_object(1) == [1]


def test_accuracy_counts_either_label_where_both_weigh_the_same():
    hook = MixProgressHook()
    target = torch.tensor([[0.5, 0.5, 0.0]]).expand(3, 3)
    hook.observe(None, None, torch.eye(3), target, None)
    assert mix_progress_hook._summary([], [hook._read()])['acc'] == pytest.approx(2 / 3)


def test_no_spread_where_all_are_equal():
    hook = MixProgressHook()
    weights = type('Weights', (), dict(alpha=torch.full((3,), 0.7)))()
    for _ in range(100):
        hook.observe(None, None, torch.eye(3), torch.eye(3), weights)
    assert mix_progress_hook._summary([], [hook._read()])['alpha_std'] < 1e-6


def test_a_batch_takes_a_few_operators():
    class Count(TorchDispatchMode):
        operators = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.operators += 'detach' not in str(func)
            return func(*args, **(kwargs or {}))

    hook, scores = MixProgressHook(), torch.eye(5)
    plan = type('Plan', (), dict(lam=torch.rand(5)))()
    weights = type('Weights', (), dict(alpha=torch.rand(5), lam_attn=torch.rand(5)))()
    with Count() as count:
        hook.observe(None, plan, scores, scores, weights)
    assert count.operators <= 10


def test_watching_compiles_nothing_anew(classifier_cfg, forget_graphs):
    """A user may compile the whole loss: batches that pile up are no reason for new graphs."""
    model = MODELS.build(classifier_cfg(type='MixClassifier', augments=[dict(type='MixProBatchAugment', mask_size=16)]))
    model.observer = MixProgressHook().observe
    counter = CompileCounterWithBackend('eager')
    loss = torch.compile(model.loss, backend=counter, dynamic=False)
    frames = []
    for _ in range(5):
        loss(torch.randn(4, 3, 64, 64), torch.eye(7)[:4])
        frames.append(counter.frame_count)
    assert frames[1:] == [frames[1]] * 4
