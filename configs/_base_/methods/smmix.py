# SMMix (https://arxiv.org/abs/2212.12977): the model's own attention picks the regions to mix; two losses besides.
method = dict(
    type='SMMixClassifier',
    train_cfg=dict(
        augments=[dict(type='SMMix', min_side_ratio=0.25, max_side_ratio=0.75), dict(type='Mixup', alpha=0.8)],
        probs=[0.5, 0.5],
    ),
)
