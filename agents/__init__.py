"""Agents: whatever answers a prompt, and the wrappers that are agents around agents."""
