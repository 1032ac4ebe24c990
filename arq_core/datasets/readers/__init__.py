"""Layouts of files: D4RL's, robomimic's and Minari's, with the guards that they share."""
