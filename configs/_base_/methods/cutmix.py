# Mixup and CutMix, half of the batches each: mmpretrain's own classifier and augments.
method = dict(
    type='ImageClassifier', train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)])
)
