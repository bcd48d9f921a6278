"""Fast float32 convolution on a CPU: fewer multiplications than the direct way, on channels-last buffers.

`layers.py` is the front door, `ready.py` says whether it can be used here. Nothing in this file loads numba or torch.
"""
