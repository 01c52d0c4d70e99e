# Copyright (c) MMMixPro contributors.
from collections import Counter

import numpy as np
import pytest
import torch
from mmengine.runner import Runner
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch.utils.data import Dataset


class Pictures(Dataset):
    """Images of coloured quarters with noise, without any 0, that know their place, and how often each was read.

    ``change`` is a transform, or None.
    """

    def __init__(self, num=10, size=(64, 64), change=None, content=None):
        rng = np.random.default_rng(0)
        quarters = rng.integers(0, 200, (num, 2, 2, 3)).repeat(size[0] // 2, 1).repeat(size[1] // 2, 2)
        self.images = (quarters + rng.integers(1, 56, (num, *size, 3))).astype(np.uint8)
        self.labels = rng.integers(0, 7, num).tolist()
        self.maps = rng.integers(0, 4, (num, *content)).astype(np.float32) if content else None  # with ties
        self.change = change
        self.read = Counter()

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        self.read[index] += 1
        results = dict(img=self.images[index].copy(), sample_idx=index)
        sample = DataSample(metainfo=dict(sample_idx=index)).set_gt_label(self.labels[index])
        if self.maps is not None:
            results['content'] = self.maps[index]
            sample.set_field(self.maps[index], 'content')
        if self.change is not None:
            results = self.change(results)
        return dict(inputs=torch.from_numpy(results['img']).permute(2, 0, 1).contiguous(), data_samples=sample)


@pytest.fixture
def pictures():
    return Pictures


@pytest.fixture
def classifier(classifier_cfg, redraw):
    """A classifier, redrawn, with the normalisation of ImageNet; on pictures its predictions are various."""

    def classifier(type='ImageClassifier', seed=0, **kwargs):
        torch.manual_seed(seed)
        preprocessor = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
        cfg = classifier_cfg(type=type, data_preprocessor=preprocessor, **kwargs)
        if type == 'ImageClassifier':
            cfg.pop('train_cfg')
        model = redraw(MODELS.build(cfg)).eval()
        images = torch.stack([item['inputs'] for item in map(Pictures(20).__getitem__, range(20))])
        with torch.no_grad():
            logits = model(model.data_preprocessor(dict(inputs=images))['inputs'])
            model.head.layers.head.bias -= logits.mean(0)
        return model

    return classifier


@pytest.fixture
def make_runner(tmp_path):
    """A runner to test a model; ``loader`` are settings of the data loader."""
    made = []

    def make_runner(model, dataset, test_cfg=None, evaluator=None, loader=None, **kwargs):
        made.append(None)
        return Runner(
            model=model,
            work_dir=str(tmp_path / f'run{len(made)}'),
            test_dataloader=dict(
                dict(
                    batch_size=4,
                    num_workers=0,
                    dataset=dataset,
                    sampler=dict(type='DefaultSampler', shuffle=False),
                    collate_fn=dict(type='default_collate'),
                ),
                **(loader or {}),
            ),
            test_evaluator=evaluator or dict(type='Accuracy'),
            test_cfg=test_cfg or dict(),
            default_scope='mmpretrain',
            experiment_name=f'{tmp_path.name}_{len(made)}',
            log_level='WARNING',
            **kwargs,
        )

    return make_runner
