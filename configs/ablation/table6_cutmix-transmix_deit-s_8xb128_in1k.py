_base_ = '../transmix/deit-s_8xb128_in1k.py'
