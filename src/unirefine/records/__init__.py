"""The records stage: UniRef FASTA or XML, or a lab's own FASTA, to Parquet records, streaming."""
