_base_ = ['../finetune/mixpro_deit-s_8xb96_cifar100.py', '../_base_/robustness/calibration.py']
test_evaluator = _base_.robustness.evaluator
