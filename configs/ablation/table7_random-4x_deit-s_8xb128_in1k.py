_base_ = '../mixpro/deit-s_8xb128_in1k.py'
model = dict(type='MixClassifier')
