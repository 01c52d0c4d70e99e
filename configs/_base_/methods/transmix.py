# TransMix (https://arxiv.org/abs/2111.09833): CutMix's box, labels half area and half attention.
method = dict(
    type='MixClassifier',
    labels=dict(type='AttentionLabels', area_weight=0.5),
    train_cfg=dict(
        augments=[dict(type='TransMixBatchAugment', alpha=1.0), dict(type='Mixup', alpha=0.8)], probs=[0.8, 0.2]
    ),
)
