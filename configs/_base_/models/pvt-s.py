# PVT-S (version 1), 224 px. https://arxiv.org/abs/2102.12122
model = dict(
    type='ImageClassifier',
    backbone=dict(type='PVT', arch='small', img_size=224, drop_path_rate=0.1),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=512,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02),
    ),
)
