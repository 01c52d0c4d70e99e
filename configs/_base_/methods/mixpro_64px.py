# MixPro for minutes of training at 64 px: 4 x 4 mask cells, as 64 px cells have in 224 px, and half
# of the batches as they are.
_base_ = 'mixpro.py'
method = dict(train_cfg=dict(augments=[dict(type='MixProBatchAugment', mask_size=16, alpha=1.0)], probs=[0.5]))
