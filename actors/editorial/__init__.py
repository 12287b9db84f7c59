"""Editorial: articles, their workflow, and the lists and searches that readers see."""
