"""Local models: the catalogue and its weights, and the engines that generate with them. Knows nothing of our nouns."""
