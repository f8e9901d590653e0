"""CUDA kernels: CUDA C sources and their launcher."""
