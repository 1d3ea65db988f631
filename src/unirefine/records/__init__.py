"""The records stage: UniRef FASTA or XML, or your own FASTA, to Parquet records, streaming."""
