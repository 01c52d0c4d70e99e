# Pascal Context without its background, which is neither learnt nor counted.
_base_ = 'pascal_context_bs2_480.py'
train_dataloader = dict(dataset=dict(type='PascalContextDataset59'))
val_dataloader = dict(dataset=dict(type='PascalContextDataset59'))
test_dataloader = val_dataloader
