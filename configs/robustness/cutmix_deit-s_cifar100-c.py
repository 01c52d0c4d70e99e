_base_ = ['../finetune/cutmix_deit-s_8xb96_cifar100.py', '../_base_/robustness/cifar100-c.py']
test_dataloader = dict(dataset=dict(_delete_=True, pipeline=_base_.test_pipeline, **_base_.robustness.dataset))
test_evaluator = _base_.robustness.evaluator
