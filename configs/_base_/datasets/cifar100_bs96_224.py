# CIFAR-100 at 224 px, in $CIFAR100_ROOT/cifar-100-python/, which mmpretrain downloads where it is missing.
_base_ = 'finetune_bs96_224.py'
data_root = '{{$CIFAR100_ROOT:data/cifar100}}'
# The images are in memory, in RGB.
data_preprocessor = dict(num_classes=100, to_rgb=False)
train_pipeline = _base_.train_pipeline[1:]
train_pipeline[2] = dict(
    train_pipeline[2], hparams=dict(pad_val=[round(x) for x in _base_.data_preprocessor.mean], interpolation='bicubic')
)
test_pipeline = _base_.test_pipeline[1:]
train_dataloader = dict(dataset=dict(type='CIFAR100', data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(type='CIFAR100', data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader
