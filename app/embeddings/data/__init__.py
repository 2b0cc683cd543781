"""Data files of the embedding models; NOTICE says where they come from."""
