"""Key targets by the network, everything between along optical flow (paper, supplement A)."""
