"""Pure metrics: arrays in, numbers out. Only ``denoising`` needs torch."""
