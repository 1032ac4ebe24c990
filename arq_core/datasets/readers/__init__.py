"""Layouts of files: D4RL's, robomimic's, Minari's and OGBench's, and the guards that they share."""
