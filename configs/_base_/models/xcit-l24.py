_base_ = 'xcit-s12.py'
model = dict(
    backbone=dict(embed_dims=768, depth=24, num_heads=16, drop_path_rate=0.25, layer_scale_init_value=1e-5),
    head=dict(in_channels=768),
)
