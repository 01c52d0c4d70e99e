# PuzzleMix (https://arxiv.org/abs/2009.06962): salient cells of both images, moved and cut out, labels by area.
# Needs PyMaxflow: pip install "mmmixpro[puzzlemix]".
method = dict(
    type='MixClassifier',
    labels=dict(type='AreaLabels'),
    train_cfg=dict(augments=[dict(type='PuzzleMix', alpha=1.0), dict(type='Mixup', alpha=0.8)], probs=[0.5, 0.5]),
)
