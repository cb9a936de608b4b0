"""Images in: avatars, CelebA or any folder or zip, as one prepared uint8 array a data set."""
