"""The commands of `eot`, one file each. Everything heavy is imported inside them: `eot --help` must be quick."""
