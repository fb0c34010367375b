"""Reading and writing weights: reslab's files, torchvision's, other libraries'; and the bundled ones."""
