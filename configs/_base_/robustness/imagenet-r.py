# ImageNet-R: $ROBUSTNESS_ROOT/imagenet-r/<wnid>/*. Predictions are among its 200 classes (top1), or all (top1_all).
robustness = dict(
    dataset=dict(type='ImageNetR', data_root='{{$ROBUSTNESS_ROOT:data}}/imagenet-r'),
    evaluator=[dict(type='SubsetAccuracy', prefix='imagenet-r')],
)
