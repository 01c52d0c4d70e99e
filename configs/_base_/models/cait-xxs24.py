# CaiT-XXS24, 224 px, patch 16; drop path as in table 3. https://arxiv.org/abs/2103.17239
model = dict(
    type='ImageClassifier',
    backbone=dict(type='CaiT', arch='xxs24', img_size=224, patch_size=16, drop_path_rate=0.05),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=192,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02),
    ),
)
