# CIFAR-100-C: $ROBUSTNESS_ROOT/cifar100-c/<corruption>.npy and labels.npy, for models of CIFAR-100. What is not there
# is named in a warning, and the mean is over the rest.
robustness = dict(
    dataset=dict(type='CIFAR100C', data_root='{{$ROBUSTNESS_ROOT:data}}/cifar100-c', allow_missing=True),
    evaluator=[dict(type='CorruptionError', baseline=None)],
)
