"""From a denoiser to images: one file for each method, and the catalogue of all."""
