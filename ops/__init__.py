"""Operation: settings, composition, the command line, embedded servers, logs, metrics and the operator plane."""
