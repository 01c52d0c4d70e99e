# mixpro_64px.py for PVT, whose tokens of 32 px leave room for 2 x 2 mask cells only.
_base_ = 'mixpro.py'
method = dict(train_cfg=dict(augments=[dict(type='MixProBatchAugment', mask_size=32, alpha=1.0)], probs=[0.5]))
