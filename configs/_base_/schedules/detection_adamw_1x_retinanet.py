# PVT trains RetinaNet at half of Mask R-CNN's rate.
_base_ = 'detection_adamw_1x.py'
optim_wrapper = dict(optimizer=dict(lr=1e-4))
