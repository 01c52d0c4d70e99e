# A: TransMix whose box ends on the borders of patches.
_base_ = '../transmix/deit-t_8xb128_in1k.py'
augments = [dict(type='TransMixBatchAugment', align=16), *_base_.model.train_cfg.augments[1:]]
model = dict(train_cfg=dict(augments=augments))
