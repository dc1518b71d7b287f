"""Training against FuxiCTR and a plain PyTorch loop."""
