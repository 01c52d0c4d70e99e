_base_ = [
    '../_base_/models/ca-swin-t.py',
    '../_base_/methods/baseline.py',
    '../_base_/datasets/imagenet_bs128_224.py',
    '../_base_/schedules/imagenet_bs1024_adamw_300e.py',
    '../_base_/default_runtime.py',
]
model = _base_.method
