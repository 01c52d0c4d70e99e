# ImageNet-O, Table 5 of MixPro: $ROBUSTNESS_ROOT/imagenet-o/<wnid>/*, and ImageNet's validation images of its 200
# classes, $IMAGENET_ROOT/val/<wnid>/*.
robustness = dict(
    dataset=dict(
        type='ImageNetO',
        data_root='{{$ROBUSTNESS_ROOT:data}}/imagenet-o',
        val_root='{{$IMAGENET_ROOT:data/imagenet}}/val',
    ),
    evaluator=[dict(type='OODAUPR', subset=True, prefix='imagenet-o')],
)
