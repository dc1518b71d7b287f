"""The staging compiler and its kernels against runtimes."""
