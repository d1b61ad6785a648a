"""Networks for ensembles: what they are (spec), their programs (ensemble), and one member as a module."""
