_base_ = [
    '../_base_/models/mask-rcnn_pvt-m_fpn.py',
    '../_base_/datasets/coco_instance_bs2.py',
    '../_base_/schedules/detection_adamw_1x.py',
    '../_base_/default_runtime_mmdet.py',
]
