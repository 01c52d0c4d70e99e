_base_ = [
    '../_base_/models/deit-mini.py',
    '../_base_/methods/mixpro_64px.py',
    '../_base_/datasets/shapes_64px.py',
    '../_base_/schedules/demo_cls_adamw.py',
    '../_base_/default_runtime.py',
]
model = _base_.method
train_cfg = dict(max_epochs=13)
