"""The commands of the terminal, each in the file of its name. Each imports what it needs inside its functions, so that
help answers at once.
"""
