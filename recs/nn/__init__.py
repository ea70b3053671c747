"""Torch: what networks are trained from, how, and the networks (`zoo`).  No Spark, no Delta here."""
import os

# before torch loads OpenMP: threads that wait give their core away (on a core that others use too, spinning ones took ten times as long)
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
