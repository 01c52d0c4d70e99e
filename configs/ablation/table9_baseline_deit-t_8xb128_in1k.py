_base_ = 'table7_random-4x_deit-t_8xb128_in1k.py'
