"""Feature nets: uint8 images in, one feature vector an image out."""
