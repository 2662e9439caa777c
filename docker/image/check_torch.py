"""Prints which torch an image has, and fails the build where it is built for another CUDA than the one wanted.

python3 check_torch.py WANTED, which is a CUDA version such as 12.6, `none`, or `any`.

A torch for another CUDA installs without a word and fails on the board: so a build ends here. Whether its kernels run,
only a board can tell: federa-worker --check.
"""

import sys

import torch

wanted = sys.argv[1]
cuda = torch.version.cuda or "none"
print(f"torch {torch.__version__}, CUDA {cuda}, architectures {torch.cuda.get_arch_list() or 'none'}, {torch.__file__}")
if wanted not in ("any", cuda):
    sys.exit(f"TORCH_CUDA: this torch is built for CUDA {cuda}, not {wanted}: see docker/Dockerfile")
