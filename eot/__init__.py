"""Several LLMs exchange their reasoning on a question, and the crowd's answer comes out."""

__version__ = "0.1.0"
