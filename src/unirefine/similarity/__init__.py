"""Proteins searched against proteins: MMseqs2 on FASTA of two lines a record, and the giants that it cannot align."""
