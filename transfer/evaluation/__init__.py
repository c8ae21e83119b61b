"""Evaluation: complete episodes, scores at fixed checkpoints, information of features."""
