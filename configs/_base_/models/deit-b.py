_base_ = 'deit-s.py'
model = dict(backbone=dict(arch='deit-base'), head=dict(in_channels=768))
