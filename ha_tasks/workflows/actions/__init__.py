"""What playbook steps do: each action joins parts of several branches."""
