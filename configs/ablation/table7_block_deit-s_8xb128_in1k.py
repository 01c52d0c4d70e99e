_base_ = '../mixpro/deit-s_8xb128_in1k.py'
augments = [dict(type='TokenMix', mask_size=16, min_block_tokens=14), *_base_.model.train_cfg.augments[1:]]
model = dict(type='MixClassifier', train_cfg=dict(augments=augments))
