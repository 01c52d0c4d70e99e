# The generated world of mmmixpro.datasets.shapes, written by
# `python -m mmmixpro.datasets.shapes --out data/shapes`.
_base_ = 'folder_bs64_64px.py'
data_root = '{{$SHAPES_ROOT:data/shapes}}/imagenet'
# Shapes fill their images already, so crops do but shift them.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomCrop', crop_size=64, padding=4),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
