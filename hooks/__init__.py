"""Sources: one module per framework or library, each importing only its own."""
