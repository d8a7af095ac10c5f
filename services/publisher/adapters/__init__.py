"""What publisher reaches outside its database: the unpacking process."""
