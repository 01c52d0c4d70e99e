# MixPro as its released code computes it, where that differs from the paper: patches of 14 px and
# masks of 56 px (DeiT only), ceil(S * tau) cells, lambda_area as the share of cells, gradients
# through alpha, alpha against smoothed labels, and cross entropy against unsmoothed ones (here for the Mixup and
# CutMix batches too).
method = dict(
    type='PALClassifier',
    backbone=dict(patch_size=14),
    head=dict(loss=dict(_delete_=True, type='CrossEntropyLoss', use_soft=True)),
    labels=dict(type='ProgressiveAttentionLabels', detach_confidence=False, label_smooth_val=0.1, nearest=True),
    train_cfg=dict(
        augments=[
            dict(type='MixProBatchAugment', mask_size=56, alpha=1.0, rounding='ceil', lam='count'),
            dict(type='Mixup', alpha=0.8),
            dict(type='CutMix', alpha=1.0),
        ],
        probs=[0.5, 0.25, 0.25],
    ),
)
