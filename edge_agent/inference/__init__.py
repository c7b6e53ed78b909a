"""Models and what runs them: a repository of folders with manifests, and an engine a task behind one port."""
