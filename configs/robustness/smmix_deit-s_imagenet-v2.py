_base_ = ['../smmix/deit-s_8xb128_in1k.py', '../_base_/robustness/imagenet-v2.py']
test_dataloader = dict(dataset=dict(_delete_=True, pipeline=_base_.test_pipeline, **_base_.robustness.dataset))
test_evaluator = _base_.robustness.evaluator
