# imagenet_bs1024_adamw_300e.py with the batch and the epochs of OpenMixup's benchmark on CIFAR-100.
_base_ = 'imagenet_bs1024_adamw_300e.py'
train_cfg = dict(max_epochs=200)
auto_scale_lr = dict(base_batch_size=100)
