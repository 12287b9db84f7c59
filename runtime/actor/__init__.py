"""What one writes actors with: messages, handlers, references, errors. It imports nothing that runs them."""
