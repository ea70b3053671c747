"""One thread, as everywhere in tests: two cores are shared."""
import torch

torch.set_num_threads(1)
