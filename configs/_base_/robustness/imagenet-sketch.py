# ImageNet-Sketch: $ROBUSTNESS_ROOT/imagenet-sketch/<wnid>/*.
robustness = dict(
    dataset=dict(type='ImageNetSketch', data_root='{{$ROBUSTNESS_ROOT:data}}/imagenet-sketch'),
    evaluator=[dict(type='CompactAccuracy', prefix='imagenet-sketch')],
)
