# Tested on the whole of the shorter side (crop ratio 1, not 0.875), as CaiT and XCiT are by their authors.
_base_ = 'imagenet_bs128_224.py'
test_pipeline = [
    _base_.test_pipeline[0],
    dict(_base_.test_pipeline[1], scale=224),
    *_base_.test_pipeline[2:],
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
