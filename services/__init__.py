"""The services of Fluidcrew. None of them imports another."""
