# ImageNet-A, Table 5 of MixPro: $ROBUSTNESS_ROOT/imagenet-a/<wnid>/*. Confidence is the softmax over its 200 classes.
robustness = dict(
    dataset=dict(type='ImageNetA', data_root='{{$ROBUSTNESS_ROOT:data}}/imagenet-a'),
    evaluator=[
        dict(type='SubsetAccuracy', prefix='imagenet-a'),
        dict(type='RMSCalibrationError', subset=True, prefix='imagenet-a'),
        dict(type='HendrycksRMSCalibrationError', subset=True, prefix='imagenet-a'),
        dict(type='AURRA', subset=True, prefix='imagenet-a'),
    ],
)
