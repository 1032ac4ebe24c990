"""Readers, rebuilders and collectors' files: each turns a source into a `dataset.Dataset`. No
mathematics here.

Reading order: dataset, boxes, own, at_hand, ours, official, then `readers`, a layout a file.
"""
