_base_ = [
    '../_base_/models/segmenter_deit-mini.py',
    '../_base_/datasets/shapes_seg_bs8_128.py',
    '../_base_/schedules/demo_seg_adamw.py',
    '../_base_/default_runtime_mmseg.py',
]
default_hooks = dict(checkpoint=dict(interval=600), logger=dict(interval=25))
