_base_ = [
    '../_base_/models/ca-swin-s.py',
    '../_base_/methods/transmix.py',
    '../_base_/datasets/imagenet_bs128_224.py',
    '../_base_/schedules/imagenet_bs1024_adamw_300e.py',
    '../_base_/default_runtime.py',
]
model = _base_.method
