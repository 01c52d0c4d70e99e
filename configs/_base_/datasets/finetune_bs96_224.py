# What fine-tuning changes in the pretraining's data: no random erasing, as DeiT's, and a smaller batch.
_base_ = 'imagenet_bs128_224.py'
train_pipeline = [step for step in _base_.train_pipeline if step['type'] != 'RandomErasing']
train_dataloader = dict(batch_size=96, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=96, dataset=dict(split='test'))
val_evaluator = dict(topk=(1,))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
