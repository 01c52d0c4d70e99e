_base_ = [
    '../_base_/models/mask-rcnn_pvt-mini_fpn.py',
    '../_base_/datasets/coco_mini_person_bs4_256.py',
    '../_base_/schedules/demo_det_adamw.py',
    '../_base_/default_runtime_mmdet.py',
]
model = dict(roi_head=dict(bbox_head=dict(num_classes=1), mask_head=dict(num_classes=1)))
default_hooks = dict(logger=dict(interval=25))
