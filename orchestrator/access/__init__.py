"""API keys: who gets one, and how it is taken back."""
