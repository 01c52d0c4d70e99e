_base_ = '../cutmix/deit-t_8xb128_in1k.py'
