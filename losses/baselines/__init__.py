"""Rival losses from other papers.

Each has its own module, with its formula and a reference to its paper; the remaining modules are
shared by them.
"""
