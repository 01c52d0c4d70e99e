_base_ = [
    '../_base_/models/retinanet_pvt-s_fpn.py',
    '../_base_/datasets/coco_detection_bs2.py',
    '../_base_/schedules/detection_adamw_1x_retinanet.py',
    '../_base_/default_runtime_mmdet.py',
]
