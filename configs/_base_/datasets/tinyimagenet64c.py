# Ten ImageNet classes at 64 px.
_base_ = 'folder_bs64_64px.py'
data_root = '{{$REAL_ROOT:data/demo}}/tinyimagenet64c'
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
