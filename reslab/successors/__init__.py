"""The networks that came after ResNet, one paper a file."""
