_base_ = 'table7_random-4x_deit-t_8xb128_in1k.py'
augments = [dict(type='ShuffledMaskMix', patch_size=16, shuffle_own=True), *_base_.model.train_cfg.augments[1:]]
model = dict(train_cfg=dict(augments=augments))
