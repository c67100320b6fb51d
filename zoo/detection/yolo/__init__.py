"""The YOLO lines: layers as lists of rows, blocks and heads that they share."""
