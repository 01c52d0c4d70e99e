# Drop path as in table B.1.
_base_ = 'xcit-t24.py'
model = dict(backbone=dict(embed_dims=512, num_heads=8, drop_path_rate=0.15), head=dict(in_channels=512))
