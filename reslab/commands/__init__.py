"""The commands of the terminal, by what they are about. Each imports what it needs inside its function, so that help answers at once."""
