"""Documents: the pages of files, and search in them."""
