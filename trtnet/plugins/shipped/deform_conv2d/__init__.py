"""Deformable convolution (Dai et al. 2017), modulated (Zhu et al. 2019): DCN and DCNv2."""
