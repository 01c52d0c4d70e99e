# SaliencyMix (https://arxiv.org/abs/2006.01791): CutMix's box on what is salient, labels by area.
method = dict(
    type='MixClassifier',
    labels=dict(type='AreaLabels'),
    train_cfg=dict(augments=[dict(type='SaliencyMix', alpha=1.0), dict(type='Mixup', alpha=0.8)], probs=[0.5, 0.5]),
)
