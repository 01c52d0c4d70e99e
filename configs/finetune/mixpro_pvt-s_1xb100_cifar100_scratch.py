_base_ = [
    '../_base_/models/pvt-s.py',
    '../_base_/methods/mixpro.py',
    '../_base_/datasets/cifar100_bs100_224_scratch.py',
    '../_base_/schedules/cifar100_bs100_adamw_200e.py',
    '../_base_/default_runtime.py',
]
model = dict(head=dict(num_classes=100), **_base_.method)
