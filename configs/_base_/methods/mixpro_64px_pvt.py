# MixPro for PVT at 64 px: its tokens of 32 px leave room for 2 x 2 mask cells only.
_base_ = 'mixpro.py'
method = dict(
    train_cfg=dict(
        augments=[
            dict(type='MixProBatchAugment', mask_size=32, alpha=1.0),
            dict(type='Mixup', alpha=0.8),
            dict(type='CutMix', alpha=1.0),
        ]
    )
)
