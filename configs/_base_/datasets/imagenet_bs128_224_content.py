# imagenet_bs128_224.py with an activation map for each image, under $TOKENMIX_MAPS: tools/precompute_maps.py.
_base_ = 'imagenet_bs128_224.py'
data_preprocessor = dict(type='ContentDataPreprocessor')
train_pipeline = [
    _base_.train_pipeline[0],
    dict(_base_.train_pipeline[1], type='TrackedRandomResizedCrop'),
    *_base_.train_pipeline[2:-1],
    dict(type='LoadContentMap', path='{{$TOKENMIX_MAPS:data/tokenmix_maps}}', size=14),
    dict(type='PackInputs', algorithm_keys=['content']),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
