"""Batch jobs: files of requests, validated, worked through by any number of workers, each answered exactly once."""
