_base_ = [
    '../_base_/models/mask-rcnn_pvt-mini_fpn.py',
    '../_base_/datasets/shapes_coco_bs4_128.py',
    '../_base_/schedules/demo_det_adamw.py',
    '../_base_/default_runtime_mmdet.py',
]
model = dict(roi_head=dict(bbox_head=dict(num_classes=10), mask_head=dict(num_classes=10)))
default_hooks = dict(logger=dict(interval=25))
train_cfg = dict(max_epochs=5, val_interval=5)
