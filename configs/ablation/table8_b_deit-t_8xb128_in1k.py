# B: MixPro whose cells end in the middle of patches.
_base_ = '../mixpro/deit-t_8xb128_in1k.py'
augments = [dict(type='MixProBatchAugment', mask_size=64, offset=8), *_base_.model.train_cfg.augments[1:]]
model = dict(train_cfg=dict(augments=augments))
