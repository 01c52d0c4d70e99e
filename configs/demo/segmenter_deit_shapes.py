_base_ = [
    '../_base_/models/segmenter_deit-mini.py',
    '../_base_/datasets/shapes_seg_bs8_128.py',
    '../_base_/schedules/demo_seg_adamw.py',
    '../_base_/default_runtime_mmseg.py',
]
train_cfg = dict(max_iters=350, val_interval=175)
default_hooks = dict(checkpoint=dict(interval=350), logger=dict(interval=25))
