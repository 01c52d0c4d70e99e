# XCiT-S12/16, 224 px; drop path and LayerScale as in table B.1. https://arxiv.org/abs/2106.09681
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='XCiT',
        img_size=224,
        patch_size=16,
        embed_dims=384,
        depth=12,
        num_heads=8,
        drop_path_rate=0.05,
        layer_scale_init_value=1.0,
        tokens_norm=True,
        # Else mmpretrain draws linear layers with a deviation of 1.
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02),
    ),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=384,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02),
    ),
)
