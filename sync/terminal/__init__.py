"""What both command lines share: command tables and check lists. The door to typer and rich."""
