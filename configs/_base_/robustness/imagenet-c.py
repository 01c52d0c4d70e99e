# ImageNet-C: $ROBUSTNESS_ROOT/imagenet-c/<corruption>/<severity>/<wnid>/*. Its images are 224 px crops already and are
# not resized and cropped once more, which is why the pipeline stands here. What is not there is named in a warning, and
# the mean is over the rest; mCE needs all.
robustness = dict(
    dataset=dict(
        type='ImageNetC',
        data_root='{{$ROBUSTNESS_ROOT:data}}/imagenet-c',
        allow_missing=True,
        pipeline=[dict(type='LoadImageFromFile'), dict(type='CenterCrop', crop_size=224), dict(type='PackInputs')],
    ),
    evaluator=[dict(type='CorruptionError')],
)
