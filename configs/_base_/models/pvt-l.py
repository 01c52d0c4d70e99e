# Drop path as in PVT's released configs.
_base_ = 'pvt-s.py'
model = dict(backbone=dict(arch='large', drop_path_rate=0.3))
