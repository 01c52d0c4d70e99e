# What all classification configs share. `import mmmixpro` registers its classes.
default_scope = 'mmpretrain'
custom_imports = dict(imports=['mmmixpro'], allow_failed_imports=False)

# All hooks stand here, in a dict: a child config that adds its own `custom_hooks` keeps them.
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # At least two are kept: mmengine deletes the oldest before it writes the newest.
    checkpoint=dict(
        type='CheckpointHook',
        interval=1,
        max_keep_ckpts=3,
        backend_args=dict(backend='mmmixpro.atomic'),
    ),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='VisualizationHook', enable=False),
    epoch_seed=dict(type='mmpretrain.EpochSeedHook'),
    preflight=dict(type='mmpretrain.PreflightHook'),
    mix_progress=dict(type='mmpretrain.MixProgressHook'),
)

# Each rank draws masks of its own. Bitwise repeatable on CPU; on GPU add deterministic=True.
randomness = dict(seed=0, diff_rank_seed=True)

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='UniversalVisualizer', vis_backends=vis_backends)
log_level = 'INFO'
load_from = None
resume = False
