"""One model per file, plain PyTorch."""
