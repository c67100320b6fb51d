"""greedy_nms: greedy non-maximum suppression as one plugin, with a kernel on bit masks."""
