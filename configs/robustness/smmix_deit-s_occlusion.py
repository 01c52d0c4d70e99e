_base_ = ['../smmix/deit-s_8xb128_in1k.py', '../_base_/robustness/occlusion.py']
test_evaluator = _base_.robustness.evaluator
test_cfg = _base_.robustness.test_cfg
