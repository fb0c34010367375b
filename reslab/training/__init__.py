"""Training: recipes, the loop, checkpoints. The only place that knows Lightning Fabric."""
