"""The stories that the chapter's three files print when run."""
