"""Training of a model that lies on this disk: continued pre-training, instruction tuning, alignment. By trl, peft."""
