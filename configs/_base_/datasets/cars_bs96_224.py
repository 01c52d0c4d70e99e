# Stanford Cars under $STANFORD_CARS_ROOT: car_ims/ and cars_annos.mat.
_base_ = 'finetune_bs96_224.py'
data_root = '{{$STANFORD_CARS_ROOT:data/Stanford_Cars}}'
data_preprocessor = dict(num_classes=196)
train_dataloader = dict(dataset=dict(type='StanfordCars', data_root=data_root))
val_dataloader = dict(dataset=dict(type='StanfordCars', data_root=data_root))
test_dataloader = val_dataloader
