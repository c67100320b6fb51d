"""roi_align (He et al. 2017): features of boxes whose corners are not rounded."""
