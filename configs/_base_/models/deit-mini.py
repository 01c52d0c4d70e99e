# A DeiT small enough for two CPU cores: 64 px, patch 8, 0.8 M parameters.
_base_ = 'deit-s.py'
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=128, num_layers=4, num_heads=4, feedforward_channels=512),
        img_size=64,
        patch_size=8,
        drop_path_rate=0.0,
    ),
    head=dict(num_classes=10, in_channels=128),
    # Wider than a full-size DeiT's: 128 channels learn nothing for epochs from 0.02.
    init_cfg=[
        dict(type='TruncNormal', layer='Linear', std=0.06, bias=0.0),
        dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
    ],
)
