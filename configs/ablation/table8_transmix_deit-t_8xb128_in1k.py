_base_ = '../transmix/deit-t_8xb128_in1k.py'
