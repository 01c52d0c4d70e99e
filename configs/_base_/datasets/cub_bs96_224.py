# CUB-200-2011 under $CUB_ROOT: images/, images.txt, image_class_labels.txt and train_test_split.txt.
_base_ = 'finetune_bs96_224.py'
data_root = '{{$CUB_ROOT:data/CUB_200_2011}}'
data_preprocessor = dict(num_classes=200)
train_dataloader = dict(dataset=dict(type='CUB', data_root=data_root))
val_dataloader = dict(dataset=dict(type='CUB', data_root=data_root))
test_dataloader = val_dataloader
