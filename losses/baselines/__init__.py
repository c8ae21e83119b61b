"""The rivals: published losses, each in one module, with its formula and its source."""
