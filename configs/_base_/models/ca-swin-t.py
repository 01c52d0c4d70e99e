# CA-Swin-T, 224 px: Swin-T (https://arxiv.org/abs/2103.14030), whose drop path it has, with a last block of class
# attention (https://arxiv.org/abs/2111.09833).
model = dict(
    type='ImageClassifier',
    backbone=dict(type='CASwin', arch='tiny', img_size=224, drop_path_rate=0.2),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=768,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02),
    ),
)
