_base_ = 'pvt-s.py'
model = dict(backbone=dict(arch='tiny'))
