"""CPU kernels: explicit vectors through LLVM."""
