# coco_instance_bs2.py, boxes alone.
_base_ = 'coco_instance_bs2.py'
train_pipeline = [
    dict(step, with_mask=False) if step['type'] == 'LoadAnnotations' else step for step in _base_.train_pipeline
]
test_pipeline = [
    dict(step, with_mask=False) if step['type'] == 'LoadAnnotations' else step for step in _base_.test_pipeline
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
val_evaluator = dict(metric='bbox')
test_dataloader = val_dataloader
test_evaluator = val_evaluator
