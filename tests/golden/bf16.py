"""Makes bf16.txt, as make_golden.py makes the other files; bf16 are written as the f32 that they are."""

import pathlib
import struct

import numpy as np
import torch

HERE = pathlib.Path(__file__).parent


def line(name, tensor):
    bits = tensor.detach().flatten().view(torch.int32).tolist()
    return name + " " + "".join(f"{b & 0xFFFFFFFF:08x}" for b in bits)


rng = np.random.default_rng(1)
bits = rng.integers(0, 1 << 32, 400, dtype=np.uint32)
# A third between two bf16 or next to the middle, and the ends of the range.
bits[::3] = (bits[::3] & 0xFFFF0000) + 0x7FFF + rng.integers(0, 3, len(bits[::3]), dtype=np.uint32)
ends = [0, 1 << 31, 1, 0x7FFF, 0x8000, 0x8001, 0x18000, 0x7F7F7FFF, 0x7F7F8000, 0x7F7FFFFF, 0x7F800000, 0xFF800000, 0x7FC00000]
x = torch.from_numpy(np.concatenate([bits, np.array(ends, dtype=np.uint32)]).view(np.float32))
out = [f"# PyTorch {torch.__version__}, CPU capability {torch.backends.cpu.get_cpu_capability()}; see bf16.py"]
out += [line("x", x), line("bf16", x.bfloat16().float())]
(HERE / "bf16.txt").write_text("\n".join(out) + "\n")
