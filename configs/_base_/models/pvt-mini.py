# A PVT small enough for two CPU cores: 64 px, 2.1 M parameters.
_base_ = 'pvt-s.py'
model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True,
            embed_dims=[32, 64, 128, 256],
            num_layers=[1, 1, 2, 1],
            num_heads=[1, 2, 4, 8],
            mlp_ratios=[8, 8, 4, 4],
            sr_ratios=[8, 4, 2, 1],
        ),
        img_size=64,
        drop_path_rate=0.0,
    ),
    head=dict(num_classes=10, in_channels=256),
)
