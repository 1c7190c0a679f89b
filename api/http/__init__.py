"""The service as others reach it: one file a surface, and what they share."""
