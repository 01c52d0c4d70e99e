# MixPro (https://arxiv.org/abs/2304.12043): MaskMix and Progressive Attention Labeling.
method = dict(
    type='PALClassifier',
    train_cfg=dict(
        augments=[
            dict(type='MixProBatchAugment', mask_size=64, alpha=1.0),
            dict(type='Mixup', alpha=0.8),
            dict(type='CutMix', alpha=1.0),
        ],
        probs=[0.5, 0.25, 0.25],
    ),
)
