# Copyright (c) MMMixPro contributors.
"""Suites of the robustness tool on little data: what can be tested, and what is refused."""

SUITES = dict(
    # On the config's own test set, by the config's metric.
    clean="robustness = dict(evaluator=[dict(type='Accuracy')])",
    # A set of its own.
    noise="""
robustness = dict(
    dataset=dict(type='CustomDataset', data_root='{{$ROBUSTNESS_ROOT:data}}/noise', with_label=True),
    evaluator=[dict(type='Accuracy', prefix='noise'), dict(type='AveragePrecision', prefix='noise')],
    test_cfg=dict(fp16=False),
)""",
    # Sets that are not there, not whole, and whole but broken.
    absent="""
dataset = dict(type='CustomDataset', data_root='{{$ROBUSTNESS_ROOT:data}}/absent', with_label=True)
robustness = dict(dataset=dataset, evaluator=[dict(type='Accuracy')])""",
    partial="""
dataset = dict(type='CustomDataset', data_root='{{$ROBUSTNESS_ROOT:data}}/partial', with_label=True)
robustness = dict(dataset=dataset, evaluator=[dict(type='Accuracy')])""",
    broken="""
dataset = dict(type='CustomDataset', data_root='{{$ROBUSTNESS_ROOT:data}}/broken', with_label=True)
robustness = dict(dataset=dataset, evaluator=[dict(type='Accuracy')])""",
)


# What several ranks refuse, at the start and at the first batch, all of them or one.
REFUSED = dict(
    foreign="""
dataset = dict(type='CustomDataset', data_root='{{$ROBUSTNESS_ROOT:data}}/noise', ann_file='../../labels.txt',
               classes=['a', 'b', 'c'])
robustness = dict(dataset=dataset, evaluator=[dict(type='Accuracy')])""",
    # There on the first rank alone.
    apart="""
dataset = dict(type='CustomDataset', data_root='{{$ROBUSTNESS_ROOT:data}}/rank{{$LOCAL_RANK:0}}', with_label=True)
robustness = dict(dataset=dataset, evaluator=[dict(type='Accuracy')])""",
    guide="""
guide = dict(type='GuideAttentionSaliency', checkpoint='nowhere.pth', model=dict(type='ImageClassifier', backbone=dict(
    type='VisionTransformer', arch='deit-tiny', img_size=32, patch_size=16)))
robustness = dict(evaluator=[dict(type='CompactAccuracy')], test_cfg=dict(type='OcclusionTestLoop', saliency=guide))""",
    hook="robustness = dict(evaluator=[dict(type='Accuracy')], test_cfg=dict(type='RefusingLoop', at='start'))",
    first="robustness = dict(evaluator=[dict(type='Accuracy')], test_cfg=dict(type='RefusingLoop', at='first'))",
    grid="""
robustness = dict(evaluator=[dict(type='CompactAccuracy')], test_cfg=dict(type='OcclusionTestLoop', grid=33))""",
)
REFUSING_LOOP = """

from mmengine.runner import TestLoop
from mmpretrain.registry import LOOPS


@LOOPS.register_module()
class RefusingLoop(TestLoop):
    def __init__(self, *args, at, **kwargs):
        super().__init__(*args, **kwargs)
        self.at = at

    def run(self):
        if self.at == 'start' and self.runner.rank == 1:
            raise ValueError('refused by rank 1')
        return super().run()

    def run_iter(self, idx, data_batch):
        if self.runner.rank == 1:
            raise ValueError('first batch of rank 1')
        super().run_iter(idx, data_batch)
"""
