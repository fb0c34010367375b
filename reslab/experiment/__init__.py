"""The machinery of studies: settings, trials, texts and records."""
