_base_ = ['../smmix/deit-s_8xb128_in1k.py', '../_base_/robustness/calibration.py']
test_evaluator = _base_.robustness.evaluator
