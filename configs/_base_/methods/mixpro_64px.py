# MixPro for images of 64 px: 4 x 4 mask cells, as 64 px cells have in 224 px.
_base_ = 'mixpro.py'
method = dict(
    train_cfg=dict(
        augments=[
            dict(type='MixProBatchAugment', mask_size=16, alpha=1.0),
            dict(type='Mixup', alpha=0.8),
            dict(type='CutMix', alpha=1.0),
        ]
    )
)
