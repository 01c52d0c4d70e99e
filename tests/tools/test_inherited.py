# Copyright (c) MMMixPro contributors.
"""Whole recipes taken over into a config elsewhere, by ``library::``."""

import pytest

CHILD = """
_base_ = '{base}'
custom_imports = dict(imports=['mmmixpro'], allow_failed_imports=False)
images = dict(_delete_=True, type='CustomDataset', data_root='data/train', pipeline=_base_.test_pipeline)
train_dataloader = dict(batch_size=4, num_workers=0, persistent_workers=False, dataset=images)
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=images)
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=1)
param_scheduler = []
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32), patch_size=32),
    head=dict(in_channels=16, num_classes=5))
data_preprocessor = dict(num_classes=5)
"""


@pytest.mark.parametrize(
    'base', ['mmmixpro::mixpro/deit-t_8xb128_in1k.py', 'mmpretrain::deit/deit-tiny_4xb256_in1k.py']
)
def test_inherited_recipe_trains_and_is_tested(tiny, base):
    name = base.split(':')[0]
    config = tiny.folder / f'{name}.py'
    config.write_text(CHILD.format(base=base))
    tiny.tool('train.py', config, '--work-dir', name)
    tiny.tool('test.py', config, f'{name}/epoch_1.pth', '--out', f'{name}.json')
    assert (tiny.folder / f'{name}.json').is_file()
