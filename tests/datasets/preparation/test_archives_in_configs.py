# Copyright (c) MMMixPro contributors.
"""Every ImageNet config reads archives where its data root says so."""

from pathlib import Path

import miniatures
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS

from mmmixpro.datasets.preparation.imagenet import prepare_imagenet
from mmmixpro.engine.preflight import check_data_paths

CONFIGS = Path(__file__).resolve().parents[3] / 'configs'


@pytest.mark.parametrize('layout', ['zip', 'lmdb'])
@pytest.mark.parametrize('leaf', ['mixpro/deit-s_8xb128_in1k.py', 'mixpro/pvt-s_fast_8xb128_in1k.py'])
def test_any_config_reads_archives_by_its_data_root(layout, leaf, downloads, out, monkeypatch):
    """The same samples, in the same order, as from folders; read by two workers."""
    prepare_imagenet(downloads, out)
    prepare_imagenet(downloads, out, layout)
    init_default_scope('mmpretrain')
    batches = {}
    for root in (str(out), f'{layout}://{out}'):
        monkeypatch.setenv('IMAGENET_ROOT', root)
        cfg = Config.fromfile(CONFIGS / leaf)
        assert cfg.train_dataloader.dataset.data_root == cfg.val_dataloader.dataset.data_root == root
        check_data_paths(cfg, ('train_dataloader', 'val_dataloader'))
        for loader in (cfg.train_dataloader, cfg.val_dataloader):
            loader.dataset.metainfo = dict(classes=sorted(miniatures.WNIDS))
            loader.update(num_workers=2, batch_size=2)
            loader.dataset.serialize_data = False
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
        assert [Path(dataset.get_data_info(i)['img_path']).name for i in range(12)] == [
            name.split('/')[1] for name in sorted(miniatures.train_images())
        ]
        assert dataset.get_gt_labels().tolist() == [0] * 3 + [1] * 4 + [2] * 5
        batches[root] = list(Runner.build_dataloader(cfg.val_dataloader))
    assert len(batches[str(out)]) == 3
    for ours, local in zip(*batches.values(), strict=True):
        np.testing.assert_array_equal(np.stack(ours['inputs']), np.stack(local['inputs']))
        assert [s.gt_label for s in ours['data_samples']] == [s.gt_label for s in local['data_samples']]


def test_missing_archive_stops_a_training_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv('IMAGENET_ROOT', f'zip://{tmp_path}')
    cfg = Config.fromfile(CONFIGS / 'mixpro/deit-s_8xb128_in1k.py')
    (tmp_path / 'val.zip').touch()
    with pytest.raises(FileNotFoundError, match=rf"expects 'zip://{tmp_path}/train', found only .*IMAGENET_ROOT="):
        check_data_paths(cfg, ('train_dataloader',))
