"""The staging compiler: a plain PyTorch module as what is computed per item, per request and per candidate."""
