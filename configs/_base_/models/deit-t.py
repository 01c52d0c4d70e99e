_base_ = 'deit-s.py'
model = dict(backbone=dict(arch='deit-tiny'), head=dict(in_channels=192))
