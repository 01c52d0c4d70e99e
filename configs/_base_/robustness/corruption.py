# The 15 corruptions of ImageNet-C at 5 severities, made on the fly of the images of the config's own test set.
robustness = dict(
    wrapper=dict(type='CorruptedDataset'),
    evaluator=[dict(type='CorruptionError', baseline=None)],
)
