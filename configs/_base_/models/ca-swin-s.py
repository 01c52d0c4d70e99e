# Drop path as Swin-S.
_base_ = 'ca-swin-t.py'
model = dict(backbone=dict(arch='small', drop_path_rate=0.3))
