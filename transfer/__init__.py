"""Whether it helped: one training, a transfer as a study of trainings, scores and tables.

`__init__.pyi` lists the public names. Each is imported on first use, so that the command line
answers before torch and the environments are imported.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
