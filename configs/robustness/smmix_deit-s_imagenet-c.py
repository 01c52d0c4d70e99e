_base_ = ['../smmix/deit-s_8xb128_in1k.py', '../_base_/robustness/imagenet-c.py']
test_dataloader = dict(dataset=dict(_delete_=True, **_base_.robustness.dataset))
test_evaluator = _base_.robustness.evaluator
