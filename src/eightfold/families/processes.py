"""The processes that families share, and how files name them. The knots are the schedules of Align Your Steps (arXiv 2404.14507)."""

from ..specs.process import Edm, ScaledLinear

SD_KNOTS = (1.0, 0.851, 0.737, 0.646, 0.546, 0.456, 0.344, 0.234, 0.125, 0.025, 0.001)
SDXL_KNOTS = (1.0, 0.846, 0.731, 0.588, 0.444, 0.311, 0.194, 0.117, 0.054, 0.014, 0.001)

SD_PROCESS = ScaledLinear(knots=SD_KNOTS)
SDXL_PROCESS = ScaledLinear(knots=SDXL_KNOTS)
# of fine-tunes that predict velocity (arXiv 2305.08891)
ZERO_TERMINAL = ScaledLinear(zero_terminal=True)
# CosXL: a file with the tensor edm_vpred.sigma_max
COSXL_PROCESS = Edm(lowest=0.002, highest=120.0)
# Playground 2.5: a file with the tensors edm_mean and edm_std
PLAYGROUND_PROCESS = Edm(lowest=0.002, highest=80.0, spread=0.5)

# How fine-tunes say what they predict: Stability-AI/ModelSpec in the metadata of a file, the scheduler's settings in diffusers' folders
SAYS_VELOCITY = (("modelspec.prediction_type", "v"), ("scheduler.prediction_type", "v_prediction"))
SAYS_NOISE = (("modelspec.prediction_type", "epsilon"), ("scheduler.prediction_type", "epsilon"))
SAYS_ZERO_TERMINAL = (("scheduler.rescale_betas_zero_snr", "True"),)
