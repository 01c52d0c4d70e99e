_base_ = '../cutmix/deit-s_8xb128_in1k.py'
