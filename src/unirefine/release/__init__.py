"""Download a UniProt release and verify it: single files of the current one, or the tarball of an older one."""
