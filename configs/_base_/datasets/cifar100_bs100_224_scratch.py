# cifar100_bs96_224.py for training from scratch: wider crops, as OpenMixup's benchmark on CIFAR-100.
_base_ = 'cifar100_bs96_224.py'
train_pipeline = [dict(_base_.train_pipeline[0], crop_ratio_range=(0.8, 1.0)), *_base_.train_pipeline[1:]]
train_dataloader = dict(batch_size=100, dataset=dict(pipeline=train_pipeline))
