"""Judge any split: how similar is each held-out sequence to what is trained on?"""
