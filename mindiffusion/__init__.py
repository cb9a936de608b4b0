"""minDiffusion-style networks, processes and training with noise and sparsity curricula.

Importing the package is free of PyTorch, so that tables and figures rebuild on a laptop; import
the modules you need: ``mindiffusion.unet``, ``mindiffusion.curriculum_ddpm``, ...
"""

__version__ = "0.1.0"
