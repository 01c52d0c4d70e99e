# mmseg's recipe for Segmenter, 80 k iterations.
optim_wrapper = dict(optimizer=dict(type='SGD', lr=1e-3, momentum=0.9, weight_decay=0.0))
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=1e-4, begin=0, end=80000, by_epoch=False)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=80000, val_interval=8000)
val_cfg = dict()
test_cfg = dict()
# The learning rate above is for this batch: --auto-scale-lr adapts it to yours.
auto_scale_lr = dict(base_batch_size=16)
