# The generated world of mmmixpro.datasets.shapes, written by
# `python -m mmmixpro.datasets.shapes --out data/shapes`.
_base_ = 'folder_bs64_64px.py'
data_root = '{{$SHAPES_ROOT:data/shapes}}/imagenet'
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
