# default_runtime.py, compiled, and without waiting for the device in every step.
_base_ = 'default_runtime.py'

default_hooks = dict(runtime_info=dict(type='DeferredRuntimeInfoHook'), compile=dict(type='CompileHook'))
env_cfg = dict(cudnn_benchmark=True)
