# imagenet_bs128_224.py with faster transforms: the same arguments, the same distribution. For x86 with AVX2.
_base_ = 'imagenet_bs128_224.py'
train_pipeline = [
    _base_.train_pipeline[0],
    *[dict(step, type='Fast' + step['type']) for step in _base_.train_pipeline[1:-1]],
    _base_.train_pipeline[-1],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
