_base_ = 'table7_random-4x_deit-s_8xb128_in1k.py'
