# The same schedule in bfloat16, with a fused optimizer on few groups of parameters.
_base_ = 'imagenet_bs1024_adamw_300e.py'

optim_wrapper = dict(
    type='AsyncOptimWrapper',
    dtype='bfloat16',
    constructor='MergedOptimWrapperConstructor',
    optimizer=dict(fused=True),
)
