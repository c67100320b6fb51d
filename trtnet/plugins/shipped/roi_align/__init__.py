"""RoIAlign (He et al. 2017): features of boxes, without rounding their corners."""
