_base_ = '../mixpro/deit-s_8xb128_in1k.py'
augments = [dict(type='MixProBatchAugment', mask_size=112), *_base_.model.train_cfg.augments[1:]]
model = dict(train_cfg=dict(augments=augments))
