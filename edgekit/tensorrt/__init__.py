"""TensorRT, for whoever builds engines: a board that builds its own, and a build machine that builds for RTX GPUs.

Part of the device side: the standard library, numpy, and the `tensorrt` or `tensorrt_rtx` that is there.
"""
