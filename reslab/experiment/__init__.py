"""What a study is, and how one is run: its settings, its trials, its words, its record."""
