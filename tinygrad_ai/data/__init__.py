"""Data sets that come along or are fetched, and the way from a data set to batches."""

from tinygrad_ai.data import image, text
from tinygrad_ai.data.dataset import Dataset, Subset, TensorDataset, random_split
from tinygrad_ai.data.digits import fashion_mnist, mnist, mnist_small
from tinygrad_ai.data.loader import DataLoader
from tinygrad_ai.data.reviews import imdb, rotten_tomatoes
from tinygrad_ai.data.samples import photo, shakespeare

__all__ = [
    "DataLoader",
    "Dataset",
    "Subset",
    "TensorDataset",
    "fashion_mnist",
    "image",
    "imdb",
    "mnist",
    "mnist_small",
    "photo",
    "random_split",
    "rotten_tomatoes",
    "shakespeare",
    "text",
]
