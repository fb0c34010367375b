"""What the chapter's three files tell at the terminal when they are run."""
