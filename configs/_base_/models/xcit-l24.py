# Drop path as in table B.1.
_base_ = 'xcit-t24.py'
model = dict(backbone=dict(embed_dims=768, num_heads=16, drop_path_rate=0.25), head=dict(in_channels=768))
