_base_ = [
    '../_base_/models/finetune_pvt-s.py',
    '../_base_/methods/mixpro.py',
    '../_base_/datasets/aircraft_bs96_224.py',
    '../_base_/schedules/finetune_bs768_sgd_1000e.py',
    '../_base_/default_runtime.py',
]
model = dict(head=dict(num_classes=100), **_base_.method)
