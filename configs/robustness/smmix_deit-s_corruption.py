_base_ = ['../smmix/deit-s_8xb128_in1k.py', '../_base_/robustness/corruption.py']
test_dataloader = dict(dataset=dict(_delete_=True, dataset=_base_.test_dataloader.dataset, **_base_.robustness.wrapper))
test_evaluator = _base_.robustness.evaluator
