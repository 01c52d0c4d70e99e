# MixPro to the letter of the paper: Algorithm 1 pairs x with x.flip(0), Eq. 5 reads the mask at the
# nearest pixel. All else that the paper fixes is the default already, see mixpro.py.
method = dict(
    type='PALClassifier',
    labels=dict(type='ProgressiveAttentionLabels', nearest=True),
    train_cfg=dict(
        augments=[
            dict(type='MixProBatchAugment', mask_size=64, alpha=1.0, pairing='flip'),
            dict(type='Mixup', alpha=0.8),
            dict(type='CutMix', alpha=1.0),
        ],
        probs=[0.5, 0.25, 0.25],
    ),
)
