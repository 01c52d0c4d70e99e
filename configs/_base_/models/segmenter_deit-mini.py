# Segmenter on deit-mini.py, at twice its image size.
_base_ = 'segmenter_deit-s.py'
model = dict(
    data_preprocessor=dict(size=(128, 128), test_cfg=dict(size_divisor=8)),
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=128, num_layers=4, num_heads=4, feedforward_channels=512),
        img_size=128,
        patch_size=8,
        drop_path_rate=0.0,
    ),
    decode_head=dict(in_channels=128, channels=128, embed_dims=128, num_layers=1, num_heads=4, num_classes=11),
    test_cfg=dict(crop_size=(128, 128), stride=(96, 96)),
)
