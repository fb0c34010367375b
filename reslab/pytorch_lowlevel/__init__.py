"""Level 2: a ResNet from raw tensors, forward and backward by hand."""
