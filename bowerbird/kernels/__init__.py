"""The native extension and, beside each kernel, its NumPy twin."""
