"""The Open Inference Protocol v2: a scene as a model of named tensors, over HTTP and gRPC.

Written from the public specification (kserve/open-inference-protocol) with its binary tensor extension.
"""
