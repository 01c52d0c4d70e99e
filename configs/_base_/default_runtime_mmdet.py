# default_runtime.py for detection.
_base_ = 'default_runtime.py'
default_scope = 'mmdet'
default_hooks = dict(visualization=dict(_delete_=True, type='DetVisualizationHook'))
visualizer = dict(type='DetLocalVisualizer', name='visualizer')
