"""The parts that actors are written with: messages, handlers, references, errors. It imports nothing that runs them."""
