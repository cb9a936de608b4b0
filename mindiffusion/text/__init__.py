"""Captions and prompts → tokens or states of tokens, which a network with text reads."""
