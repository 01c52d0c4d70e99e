# The same schedule in bfloat16, with a fused optimizer on few groups of parameters. Together with
# ../default_runtime_fast.py, whose hook logs the gradient norm.
_base_ = 'imagenet_bs1024_adamw_300e.py'

optim_wrapper = dict(
    type='AsyncOptimWrapper',
    dtype='bfloat16',
    constructor='MergedOptimWrapperConstructor',
    optimizer=dict(fused=True),
)
