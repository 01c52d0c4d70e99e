_base_ = [
    '../_base_/models/xcit-t24.py',
    '../_base_/methods/cutmix.py',
    '../_base_/datasets/imagenet_bs128_224_full-crop.py',
    '../_base_/schedules/imagenet_bs1024_adamw_400e.py',
    '../_base_/default_runtime.py',
]
model = _base_.method
