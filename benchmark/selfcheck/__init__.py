"""Is the instrument right, on this machine and these data?"""
