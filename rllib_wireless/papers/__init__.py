"""The papers' experiments: one module each, with its claims, its resumable cells and its figures."""
