"""Widgets that answer in a live notebook and, by the same script, in a built page without a kernel. One file each, on `base.Widget`."""
