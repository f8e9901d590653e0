"""From records to compiled kernels."""
