# The same schedule in bfloat16, with a fused optimizer.
_base_ = 'imagenet_bs1024_adamw_300e.py'

optim_wrapper = dict(type='AsyncOptimWrapper', dtype='bfloat16', optimizer=dict(fused=True))
