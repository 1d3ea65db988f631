"""The cluster stage: which UniRef90 sequences make up which UniRef50 cluster."""
