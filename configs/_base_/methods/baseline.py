# No mixing: mmpretrain's own classifier (Table 2's baseline).
method = dict(type='ImageClassifier')
