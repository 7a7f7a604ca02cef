"""The commands of `trine-study`, one a module: options and output. What they do is in the studies themselves."""
