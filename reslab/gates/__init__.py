"""Gates on the blocks of any network: traced, found, gated. The door is `reslab.residual`."""
