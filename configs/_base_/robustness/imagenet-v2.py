# ImageNet-V2, matched frequency: $ROBUSTNESS_ROOT/imagenet-v2/<0 to 999>/*.
robustness = dict(
    dataset=dict(type='ImageNetV2', data_root='{{$ROBUSTNESS_ROOT:data}}/imagenet-v2'),
    evaluator=[dict(type='CompactAccuracy', prefix='imagenet-v2')],
)
