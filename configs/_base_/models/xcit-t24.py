# Drop path and LayerScale as in table B.1, those of deep models too.
_base_ = 'xcit-s12.py'
model = dict(
    backbone=dict(embed_dims=192, depth=24, num_heads=4, drop_path_rate=0.05, layer_scale_init_value=1e-5),
    head=dict(in_channels=192),
)
