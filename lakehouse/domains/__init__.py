"""What is known of a field, one package each. They know the kernel and never each other."""
