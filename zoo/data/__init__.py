"""Video and data sets: decoding, sampling, views, and one file a data set."""
