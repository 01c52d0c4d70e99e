# GridMix (https://doi.org/10.1016/j.patcog.2020.107594): a random grid of cells, labels by area.
method = dict(
    type='MixClassifier',
    labels=dict(type='AreaLabels'),
    train_cfg=dict(
        augments=[dict(type='GridMix', mask_size=32, alpha=1.0), dict(type='Mixup', alpha=0.8)], probs=[0.5, 0.5]
    ),
)
