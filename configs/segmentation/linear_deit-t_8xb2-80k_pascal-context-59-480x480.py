_base_ = [
    '../_base_/models/linear_deit-t.py',
    '../_base_/datasets/pascal_context-59_bs2_480.py',
    '../_base_/schedules/segmentation_sgd_80k.py',
    '../_base_/default_runtime_mmseg.py',
]
model = dict(decode_head=dict(num_classes=59))
