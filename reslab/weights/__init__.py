"""Weights in and out: this lab's files, torchvision's, third parties'; and those that come with the lab."""
