"""What studies measure of networks and trials, one measurement a file."""
