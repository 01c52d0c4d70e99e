# Drop path as in table 3.
_base_ = 'cait-xxs24.py'
model = dict(backbone=dict(arch='xxs36', drop_path_rate=0.1))
