"""Realign an agent's encoder to new sensors, without a reward."""
