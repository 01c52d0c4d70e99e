_base_ = [
    '../_base_/models/segmenter_deit-b.py',
    '../_base_/datasets/pascal_context_bs2_480.py',
    '../_base_/schedules/segmentation_sgd_80k.py',
    '../_base_/default_runtime_mmseg.py',
]
