_base_ = '../mixpro/deit-t_8xb128_in1k.py'
