"""Level 3: the networks of the two ResNet papers, one paper a file."""
