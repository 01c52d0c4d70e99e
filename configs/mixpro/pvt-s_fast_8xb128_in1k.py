_base_ = [
    '../_base_/models/pvt-s.py',
    '../_base_/methods/mixpro.py',
    '../_base_/datasets/imagenet_bs128_224_fast.py',
    '../_base_/schedules/imagenet_bs1024_adamw_300e_fast.py',
    '../_base_/default_runtime_fast.py',
]
model = _base_.method
data_preprocessor = dict(channels_last=True)
